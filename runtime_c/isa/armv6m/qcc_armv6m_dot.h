/**
 * @file qcc_armv6m_dot.h
 * @brief ARMv6-M: inner products of one vector with four others, the loops of qcc_armv6m_dense.h.
 */
#ifndef QCC_ARMV6M_DOT_H
#define QCC_ARMV6M_DOT_H

#include "qcc_armv6m.h"

/** Inputs that are spread at a time, a multiple of 8, and outputs that share them, of 4. */
#define QCC_ARMV6M_CHUNK 128
#define QCC_ARMV6M_BLOCK 32

/**
 * Bytes as qcc_armv6m_dot reads them: of every four, a2 | a0 << 16 and a3 | a1 << 16.
 *
 * @param[in]  x       [n]
 * @param[out] words   [filled / 2]
 * @param[in]  n       bytes
 * @param[in]  filled  n, rounded up to a multiple of 4 with zeros
 * @param[in]  flip    0, or 128 where x is signed
 *
 * @return the sum of all a = x + flip
 */
static inline uint32_t qcc_armv6m_quads(const uint8_t *x, uint32_t *words, int32_t n, int32_t filled, uint32_t flip)
{
    uint32_t sum = 0;

    while (n >= 4) {
        const uint32_t a0 = x[0] ^ flip;
        const uint32_t a1 = x[1] ^ flip;
        const uint32_t a2 = x[2] ^ flip;
        const uint32_t a3 = x[3] ^ flip;

        words[0] = a2 | (a0 << 16);
        words[1] = a3 | (a1 << 16);
        sum += a0 + a1 + a2 + a3;
        x += 4;
        words += 2;
        n -= 4;
        filled -= 4;
    }
    for (; filled > 0; filled -= 4) {
        const uint32_t a0 = (n > 0) ? (x[0] ^ flip) : 0u;
        const uint32_t a1 = (n > 1) ? (x[1] ^ flip) : 0u;
        const uint32_t a2 = (n > 2) ? (x[2] ^ flip) : 0u;

        words[0] = a2 | (a0 << 16);
        words[1] = a1 << 16;
        sum += a0 + a1 + a2;
        words += 2;
        n = 0;
    }
    return sum;
}

#if QCC_ARMV6M_ASM
/* One word of an output's weights. */
#if QCC_ARMV6M_THUMB2
#define QCC_ARMV6M_WORD(sum) \
    "ldr r4, [r1], #4\n\tand r5, r6, r4, lsr #8\n\tands r4, r6\n\tmul r4, r2, r4\n\tmul r5, r3, r5\n\t" \
    "add " #sum ", " #sum ", r4, lsr #16\n\tadd " #sum ", " #sum ", r5, lsr #16\n\t"
#else
#define QCC_ARMV6M_WORD(sum) \
    "ldmia r1!, {r4}\n\tlsrs r5, r4, #8\n\tands r4, r6\n\tands r5, r6\n\t" \
    "muls r4, r2, r4\n\tlsrs r4, r4, #16\n\tadd " #sum ", r4\n\tmuls r5, r3, r5\n\tlsrs r5, r5, #16\n\tadd " #sum ", r5\n\t"
#endif
#define QCC_ARMV6M_FOUR \
    "ldmia r0!, {r2, r3}\n\t" QCC_ARMV6M_WORD(r8) QCC_ARMV6M_WORD(r9) QCC_ARMV6M_WORD(r10) QCC_ARMV6M_WORD(r11)
#endif

/**
 * sums[o] += sum of a * u over n * 2 inputs, for four outputs.
 *
 * @param[in]     words  [n] of qcc_armv6m_quads
 * @param[in]     w      [n / 2][4] words of four bytes u; u0 * a0 + u2 * a2 and u1 * a1 + u3 * a3 are
 *                       below 2^16 for all a
 * @param[in]     n      a multiple of 4
 * @param[in,out] sums   [4]
 *
 * @return w + 2 * n
 */
static inline const uint32_t *qcc_armv6m_dot(const uint32_t *words, const uint32_t *w, int32_t n, uint32_t *sums)
{
#if QCC_ARMV6M_ASM
    register const uint32_t *r0 __asm__("r0") = words;
    register const uint32_t *r1 __asm__("r1") = w;
    register uint32_t r8 __asm__("r8") = sums[0];
    register uint32_t r9 __asm__("r9") = sums[1];
    register uint32_t r10 __asm__("r10") = sums[2];
    register uint32_t r11 __asm__("r11") = sums[3];
    register const uint32_t *r12 __asm__("r12") = &words[n];

    __asm__ volatile(".syntax unified\n\t"
                     "movs r6, #255\n\tlsls r4, r6, #16\n\torrs r6, r4\n"
                     "1:\n\t" QCC_ARMV6M_FOUR QCC_ARMV6M_FOUR "cmp r0, r12\n\tbne 1b"
                     : "+r"(r0), "+r"(r1), "+r"(r8), "+r"(r9), "+r"(r10), "+r"(r11)
                     : "r"(r12)
                     : "r2", "r3", "r4", "r5", "r6", "cc", "memory");
    sums[0] = r8;
    sums[1] = r9;
    sums[2] = r10;
    sums[3] = r11;
    return r1;
#else
    for (int32_t k = 0; k < n; k += 2) {
        for (int32_t o = 0; o < 4; o++) {
            sums[o] += ((w[0] & 0xFF00FFu) * words[0]) >> 16;
            sums[o] += (((w[0] >> 8) & 0xFF00FFu) * words[1]) >> 16;
            w++;
        }
        words += 2;
    }
    return w;
#endif
}

#endif /* QCC_ARMV6M_DOT_H */
