/**
 * @file qcc_armv6m_gather.h
 * @brief ARMv6-M: the windows of eight pixels as qcc_armv6m_eight.h multiplies them.
 */
#ifndef QCC_ARMV6M_GATHER_H
#define QCC_ARMV6M_GATHER_H

#include "qcc_armv6m_eight.h"
#include "qcc_armv6m_geometry.h"

/** Half-words of a value. */
#define QCC_ARMV6M_PIXELS (2 * QCC_ARMV6M_WORDS)

#if QCC_ARMV6M_ASM
/* r0 bytes, r1 half-words, r2 how many are left, r3 one of them. */
#define QCC_ARMV6M_GATHER_ONE(k, at, extend) "ldrb r3, [r0, #" #k "]\n\t" extend "strh r3, [r1, #" #at "]\n\t"
#define QCC_ARMV6M_GATHER_BYTES(extend) \
    ".syntax unified\n\t" \
    "subs r2, #8\n\tbmi 2f\n" \
    "1:\n\t" \
    QCC_ARMV6M_GATHER_ONE(0, 0, extend) QCC_ARMV6M_GATHER_ONE(1, 16, extend) \
    QCC_ARMV6M_GATHER_ONE(2, 32, extend) QCC_ARMV6M_GATHER_ONE(3, 48, extend) \
    "adds r1, #64\n\t" \
    QCC_ARMV6M_GATHER_ONE(4, 0, extend) QCC_ARMV6M_GATHER_ONE(5, 16, extend) \
    QCC_ARMV6M_GATHER_ONE(6, 32, extend) QCC_ARMV6M_GATHER_ONE(7, 48, extend) \
    "adds r1, #64\n\tadds r0, #8\n\tsubs r2, #8\n\tbpl 1b\n" \
    "2:\n\t" \
    "adds r2, #8\n\tbeq 4f\n" \
    "3:\n\t" \
    QCC_ARMV6M_GATHER_ONE(0, 0, extend) \
    "adds r1, #16\n\tadds r0, #1\n\tsubs r2, #1\n\tbne 3b\n" \
    "4:"
#define QCC_ARMV6M_GATHER_BYTES_RUN(extend) \
    __asm__ volatile(QCC_ARMV6M_GATHER_BYTES(extend) : "+r"(r0), "+r"(r1), "+r"(r2) : : "r3", "cc", "memory")
#endif

/** n > 0 bytes side by side to every eighth half-word of d, sign extended where @p is_signed. */
static inline void qcc_armv6m_gather_bytes(const uint8_t *x, uint16_t *d, int32_t n, int32_t is_signed)
{
#if QCC_ARMV6M_ASM
    register const uint8_t *r0 __asm__("r0") = x;
    register uint16_t *r1 __asm__("r1") = d;
    register int32_t r2 __asm__("r2") = n;

    if (is_signed != 0) {
        QCC_ARMV6M_GATHER_BYTES_RUN("sxtb r3, r3\n\t");
    } else {
        QCC_ARMV6M_GATHER_BYTES_RUN("");
    }
#else
    for (; n > 0; n--) {
        *d = (is_signed != 0) ? (uint16_t)((*x ^ 0x80u) - 0x80u) : *x;
        x++;
        d += QCC_ARMV6M_PIXELS;
    }
#endif
}

/** Zero, n times, to every eighth half-word of d. */
static inline void qcc_armv6m_gather_zeros(uint16_t *d, int32_t n)
{
    for (; n > 0; n--) {
        *d = 0;
        d += QCC_ARMV6M_PIXELS;
    }
}

/** Part of a row of a window: @p run columns from @p at on; those outside are zero. */
static QCC_NOINLINE void qcc_armv6m_gather_run(const uint8_t *row, uint16_t *d, int32_t at, int32_t run, int32_t w,
                                               int32_t c, int32_t is_signed)
{
    int32_t before = (at < 0) ? -at : 0;
    int32_t after = ((at + run) > w) ? ((at + run) - w) : 0;

    before = (before > run) ? run : before;
    after = (after > (run - before)) ? (run - before) : after;
    qcc_armv6m_gather_zeros(d, before * c);
    d += QCC_ARMV6M_PIXELS * before * c;
    run -= before + after;
    if (run != 0) {
        qcc_armv6m_gather_bytes(&row[(at + before) * c], d, run * c, is_signed);
        d += QCC_ARMV6M_PIXELS * run * c;
    }
    qcc_armv6m_gather_zeros(d, after * c);
}

/** The window of output pixel (i, j), row by row, to every eighth half-word of d; g: geometry. */
static QCC_NOINLINE void qcc_armv6m_gather(const uint8_t *x, uint16_t *d, const int16_t *g, int32_t i, int32_t j,
                                           int32_t is_signed)
{
    const int32_t w = g[QCC_WINDOW_W];
    const int32_t c = g[QCC_WINDOW_C];
    const int32_t run = g[QCC_WINDOW_RUN];
    const int32_t left = (j * g[QCC_WINDOW_SW]) - g[QCC_WINDOW_PL];
    int32_t row = (i * g[QCC_WINDOW_SH]) - g[QCC_WINDOW_PT];

    for (int32_t rows = g[QCC_WINDOW_KH]; rows > 0; rows--) {
        int32_t at = left;

        for (int32_t runs = g[QCC_WINDOW_RUNS]; runs > 0; runs--) {
            if ((uint32_t)row >= (uint32_t)g[QCC_WINDOW_H]) {
                qcc_armv6m_gather_zeros(d, run * c);
            } else if ((at >= 0) && (at <= (w - run))) {
                qcc_armv6m_gather_bytes(&x[((row * w) + at) * c], d, run * c, is_signed);
            } else {
                qcc_armv6m_gather_run(&x[row * w * c], d, at, run, w, c, is_signed);
            }
            d += QCC_ARMV6M_PIXELS * run * c;
            at += g[QCC_WINDOW_DW];
        }
        row += g[QCC_WINDOW_DH];
    }
}

#if QCC_ARMV6M_ASM
/* r0 words, r1 words of weights, r2 the sum, r3 and r4 a word and the one before it. */
#define QCC_ARMV6M_READY_SIGN(p) \
    "lsls r5, " #p ", #16\n\tlsrs r5, r5, #31\n\tlsls r5, r5, #16\n\tsubs " #p ", " #p ", r5\n\t"
#define QCC_ARMV6M_READY_PLAIN(p)
#define QCC_ARMV6M_READY_FIRST(sign) "ldr r3, [r0]\n\t" sign(r3) "adds r2, r2, r3\n\tstr r3, [r0]\n\t"
#define QCC_ARMV6M_READY_NEXT(p, before, at, bits, sign) \
    "ldr " #p ", [r0, #" #at "]\n\t" sign(p) "adds r2, r2, " #p "\n\tlsls r5, " #before ", #" #bits "\n\t" \
    "subs r5, " #p ", r5\n\tstr r5, [r0, #" #at "]\n\t"
#define QCC_ARMV6M_READY_SEVEN(bits, sign) \
    QCC_ARMV6M_READY_NEXT(r4, r3, 16, bits, sign) QCC_ARMV6M_READY_NEXT(r3, r4, 32, bits, sign) \
    QCC_ARMV6M_READY_NEXT(r4, r3, 48, bits, sign) QCC_ARMV6M_READY_NEXT(r3, r4, 64, bits, sign) \
    QCC_ARMV6M_READY_NEXT(r4, r3, 80, bits, sign) QCC_ARMV6M_READY_NEXT(r3, r4, 96, bits, sign) \
    QCC_ARMV6M_READY_NEXT(r4, r3, 112, bits, sign) "adds r0, #128\n\t"
#define QCC_ARMV6M_READY4(sign) QCC_ARMV6M_READY_FIRST(sign) QCC_ARMV6M_READY_SEVEN(4, sign)
#define QCC_ARMV6M_READY2(sign) \
    QCC_ARMV6M_READY_FIRST(sign) QCC_ARMV6M_READY_SEVEN(2, sign) \
    QCC_ARMV6M_READY_NEXT(r3, r4, 0, 2, sign) QCC_ARMV6M_READY_SEVEN(2, sign)
#define QCC_ARMV6M_READY_RUN(word) \
    __asm__ volatile(".syntax unified\n" \
                     "1:\n\t" word "subs r1, #1\n\tbeq 2f\n\tb 1b\n2:" \
                     : "+r"(r0), "+r"(r1), "+r"(r2) \
                     : \
                     : "r3", "r4", "r5", "cc", "memory")
#endif

/**
 * What has been gathered of two pixels, to what digits are multiplied with.
 *
 * @param[in,out] q      every fourth word
 * @param[in]     words  of weights of a channel, at least 1
 *
 * @return the sum of the values
 */
static QCC_NOINLINE uint32_t qcc_armv6m_gather_ready(uint32_t *q, int32_t words, int32_t bits, int32_t is_signed)
{
#if QCC_ARMV6M_ASM
    register uint32_t *r0 __asm__("r0") = q;
    register int32_t r1 __asm__("r1") = words;
    register uint32_t r2 __asm__("r2") = 0;

    if (bits == 4) {
        if (is_signed != 0) {
            QCC_ARMV6M_READY_RUN(QCC_ARMV6M_READY4(QCC_ARMV6M_READY_SIGN));
        } else {
            QCC_ARMV6M_READY_RUN(QCC_ARMV6M_READY4(QCC_ARMV6M_READY_PLAIN));
        }
    } else if (is_signed != 0) {
        QCC_ARMV6M_READY_RUN(QCC_ARMV6M_READY2(QCC_ARMV6M_READY_SIGN));
    } else {
        QCC_ARMV6M_READY_RUN(QCC_ARMV6M_READY2(QCC_ARMV6M_READY_PLAIN));
    }
    return r2;
#else
    uint32_t sum = 0;

    for (; words > 0; words--) {
        uint32_t before = 0;

        for (int32_t k = 0; k < (32 / bits); k++) {
            const uint32_t p = *q - ((is_signed != 0) ? ((*q & 0x8000u) << 1) : 0u);

            sum += p;
            *q = p - (before << bits);
            before = p;
            q += QCC_ARMV6M_WORDS;
        }
    }
    return sum;
#endif
}

#endif /* QCC_ARMV6M_GATHER_H */
