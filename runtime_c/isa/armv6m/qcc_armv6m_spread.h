/**
 * @file qcc_armv6m_spread.h
 * @brief ARMv6-M: bytes to the halves of words, which is how the kernels multiply them.
 */
#ifndef QCC_ARMV6M_SPREAD_H
#define QCC_ARMV6M_SPREAD_H

#include "qcc_armv6m.h"

#if QCC_ARMV6M_ASM
/* r0 x, r1 d, r2 rows, r3 n, r4 gap, r5 a byte, r6 what is left of n; r12 the sum. */
#define QCC_ARMV6M_BYTE(k, flip) \
    "ldrb r5, [r0, #" #k "]\n\t" flip "add r12, r5\n\tstrh r5, [r1, #4*" #k "]\n\t"
#define QCC_ARMV6M_SPREAD(flip) \
    ".syntax unified\n" \
    "1:\n\t" \
    "mov r6, r3\n\tsubs r6, #8\n\tbmi 3f\n" \
    "2:\n\t" \
    QCC_ARMV6M_BYTE(0, flip) QCC_ARMV6M_BYTE(1, flip) QCC_ARMV6M_BYTE(2, flip) QCC_ARMV6M_BYTE(3, flip) \
    QCC_ARMV6M_BYTE(4, flip) QCC_ARMV6M_BYTE(5, flip) QCC_ARMV6M_BYTE(6, flip) QCC_ARMV6M_BYTE(7, flip) \
    "adds r0, #8\n\tadds r1, #32\n\tsubs r6, #8\n\tbpl 2b\n" \
    "3:\n\t" \
    "adds r6, #8\n\tbeq 5f\n" \
    "4:\n\t" \
    QCC_ARMV6M_BYTE(0, flip) \
    "adds r0, #1\n\tadds r1, #4\n\tsubs r6, #1\n\tbne 4b\n" \
    "5:\n\t" \
    "add r0, r4\n\tsubs r2, #1\n\tbne 1b"
#define QCC_ARMV6M_SPREAD_RUN(flip) \
    __asm__ volatile(QCC_ARMV6M_SPREAD(flip) \
                     : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(sum) \
                     : "r"(r3), "r"(r4) \
                     : "r5", "r6", "cc", "memory")
#endif

/**
 * Rows of n bytes of x, each byte plus @p flip (0 or 128) modulo 256, to every other half-word of d.
 *
 * @param[in]  x     rows, pitch bytes from one to the next
 * @param[out] d     rows * n values, every second one
 * @param[in]  rows  at least 1
 * @param[in]  n     at least 1
 *
 * @return their sum
 */
static QCC_NOINLINE uint32_t qcc_armv6m_spread(const uint8_t *x, uint16_t *d, int32_t rows, int32_t n,
                                               int32_t pitch, uint32_t flip)
{
#if QCC_ARMV6M_ASM
    register const uint8_t *r0 __asm__("r0") = x;
    register uint16_t *r1 __asm__("r1") = d;
    register int32_t r2 __asm__("r2") = rows;
    register int32_t r3 __asm__("r3") = n;
    register int32_t r4 __asm__("r4") = pitch - n;
    register uint32_t sum __asm__("r12") = 0;

    if (flip == 0u) {
        QCC_ARMV6M_SPREAD_RUN("");
    } else {
        QCC_ARMV6M_SPREAD_RUN("adds r5, #128\n\tuxtb r5, r5\n\t");
    }
    return sum;
#else
    uint32_t sum = 0;

    for (int32_t row = 0; row < rows; row++) {
        for (int32_t k = 0; k < n; k++) {
            const uint32_t v = (uint32_t)*x ^ flip;

            *d = (uint16_t)v;
            sum += v;
            x++;
            d += 2;
        }
        x += (row < (rows - 1)) ? (pitch - n) : 0;
    }
    return sum;
#endif
}

/** The value @p flip, which means zero, to n every other half-words of d; their sum. */
static inline uint32_t qcc_armv6m_blank(uint16_t *d, int32_t n, uint32_t flip)
{
    for (int32_t k = 0; k < n; k++) {
        d[2 * k] = (uint16_t)flip;
    }
    return (uint32_t)n * flip;
}

#endif /* QCC_ARMV6M_SPREAD_H */
