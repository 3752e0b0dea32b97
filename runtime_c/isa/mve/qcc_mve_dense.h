/**
 * @file qcc_mve_dense.h
 * @brief Fully connected layer of one row by dot products of 16 bytes: 8 outputs at a time.
 *
 * A kernel template: define QCC_FN (function name) and the constants below and include it.
 *   QCC_BLOCKS  blocks of 16 inputs that are unrolled, *turns* times as many are there
 *   QCC_FORM    0: a shift per channel; 1: a multiplier and a shift (qcc_mve.h)
 *   QCC_COPY    1: the input is copied to scratch memory, flipped and padded to whole blocks;
 *               0: it has whole blocks and is read where it is
 *   QCC_FLIP    1: values are flipped as they are read (QCC_COPY 0), see qcc_mve.h
 *
 *   y[o] = rescale(b[o] + sum over k of x[k] * w[o][k])
 * The weights are read once, from beginning to end. With o % 8 != 0 the first block has only so
 * many channels: what it stores beyond them, the next block overwrites.
 * The sums are modulo 2^32; the compiler has bounded the true accumulator below 2^31.
 *
 * @param[in]  x        [n]
 * @param[in]  k        per block of 8 channels: b[8], w[blocks][8][16], QCC_FORM: mult[8], and 8
 *                      bytes of shifts, negative
 * @param[out] y        [o]
 * @param[out] scratch  16 * QCC_BLOCKS * turns bytes with QCC_COPY
 * @param[in]  flip     128 where x is unsigned, else 0
 * @param[in]  words    of k
 */
#include "qcc_mve.h"

#if QCC_MVE_ASM && !defined(QCC_MVE_DENSE_ASM)
#define QCC_MVE_DENSE_ASM
#define QCC_MVE_ROW(ACC, Q)                                                                                   \
    "vldrb.8 " Q ", [%[k]], #16\n\t"                                                                          \
    "vmladava.s8 " ACC ", q0, " Q "\n\t"
#define QCC_MVE_ROWS                                                                                          \
    QCC_MVE_ROW("r0", "q1") QCC_MVE_ROW("r2", "q2") QCC_MVE_ROW("r4", "q3") QCC_MVE_ROW("r6", "q1")           \
    QCC_MVE_ROW("r8", "q2") QCC_MVE_ROW("r10", "q3") QCC_MVE_ROW("r12", "q1") QCC_MVE_ROW("lr", "q2")
#define QCC_MVE_BLOCK8_0 "vldrb.8 q0, [%[p]], #16\n\t" QCC_MVE_ROWS
#define QCC_MVE_BLOCK8_1 "vldrb.8 q0, [%[p]], #16\n\tveor q0, q0, %q[flip]\n\t" QCC_MVE_ROWS
#define QCC_MVE_SCALE8_0                                                                                      \
    "vldrb.s32 q2, [%[k]], #4\n\t"                                                                            \
    "vldrb.s32 q3, [%[k]], #4\n\t"                                                                            \
    "vshl.s32 q0, q0, q2\n\t"                                                                                 \
    "vshl.s32 q1, q1, q3\n\t"
#define QCC_MVE_SCALE8_1                                                                                      \
    "vldrw.32 q2, [%[k]], #16\n\t"                                                                            \
    "vqdmulh.s32 q0, q0, q2\n\t"                                                                              \
    "vldrw.32 q3, [%[k]], #16\n\t"                                                                            \
    "vqdmulh.s32 q1, q1, q3\n\t"                                                                              \
    "vldrb.s32 q2, [%[k]], #4\n\t"                                                                            \
    "vrshl.s32 q0, q0, q2\n\t"                                                                                \
    "vldrb.s32 q3, [%[k]], #4\n\t"                                                                            \
    "vrshl.s32 q1, q1, q3\n\t"
#endif

QCC_MVE_FN void QCC_FN(const void *x, const uint32_t *k, void *y, void *scratch, int32_t flip, int32_t n, int32_t o,
                       int32_t words, int32_t turns, int32_t lo, int32_t hi)
{
    const int32_t block = 8 + (8 * QCC_FORM) + 2 + (32 * QCC_BLOCKS * turns); /* words per 8 channels */
    const uint32_t *const last = &k[words];
    const int32_t rest = o & 7;
    const uint32_t *end = (rest != 0) ? &k[block] : last;
    uint8_t few[8];
    uint8_t *at = (o < 8) ? few : (uint8_t *)y;
#if QCC_COPY
    const uint8_t *const from = (const uint8_t *)scratch;
#else
    const uint8_t *const from = (const uint8_t *)x;
#endif
#if QCC_MVE_ASM
    const int32x4_t low = vdupq_n_s32(lo);
    const int32x4_t high = vdupq_n_s32(hi);
#if QCC_FLIP
    const uint8x16_t flips = vdupq_n_u8((uint8_t)flip);
#else
    const int32x4_t flips = low; /* not used */
#endif
#endif

#if QCC_COPY
    qcc_mve_copy((uint8_t *)scratch, (const uint8_t *)x, n, flip);
#else
    (void)scratch;
    (void)n;
    (void)flip;
#endif
    for (;;) {
#if QCC_MVE_ASM
        register const uint32_t *rk __asm__("r1") = k;
        register uint8_t *ry __asm__("r3") = at;
        register const uint8_t *past __asm__("r5") = &from[16 * QCC_BLOCKS * turns];
        register const uint8_t *rx __asm__("r9");
        register const uint32_t *rend __asm__("r11");
        const uint32_t lanes[4] = {(uint32_t)from, 0u, (uint32_t)end, 0u};
        const uint32x4_t kept = vld1q_u32(lanes); /* pointers that have no register */

        __asm__ volatile("1:\n\t"
                         "ldm %[k]!, {r0, r2, r4, r6, r8, r10, r12, lr}\n\t"
                         "vmov %[p], %[end], %q[kept][2], %q[kept][0]\n"
                         "2:\n\t"
                         QCC_MVE_NAME(QCC_MVE_TIMES_, QCC_BLOCKS)(QCC_MVE_NAME(QCC_MVE_BLOCK8_, QCC_FLIP))
                         "cmp %[p], %[past]\n\t"
                         "bne 2b\n\t"
                         "vmov q0[2], q0[0], r0, r4\n\t"
                         "vmov q0[3], q0[1], r2, r6\n\t"
                         "vmov q1[2], q1[0], r8, r12\n\t"
                         "vmov q1[3], q1[1], r10, lr\n\t" QCC_MVE_NAME(QCC_MVE_SCALE8_, QCC_FORM)
                         "vmax.s32 q0, q0, %q[lo]\n\t"
                         "vmax.s32 q1, q1, %q[lo]\n\t"
                         "vmin.s32 q0, q0, %q[hi]\n\t"
                         "vmin.s32 q1, q1, %q[hi]\n\t"
                         "vstrb.32 q0, [%[y]], #4\n\t"
                         "vstrb.32 q1, [%[y]], #4\n\t"
                         "cmp %[k], %[end]\n\t"
                         "bne 1b\n"
                         : [k] "+r"(rk), [y] "+r"(ry), [p] "=&r"(rx), [end] "=&r"(rend)
                         : [past] "r"(past), [kept] "w"(kept), [lo] "w"(low), [hi] "w"(high), [flip] "w"(flips)
                         : "r0", "r2", "r4", "r6", "r8", "r10", "r12", "lr", "q0", "q1", "q2", "q3", "cc",
                           "memory");
        k = rk;
        at = ry;
#else
        while (k != end) {
            const int8_t *wp = (const int8_t *)&k[8];
            const int8_t *shift = (const int8_t *)&k[block - 2];
            int32_t acc[8];
#if QCC_FORM == 1
            int32_t mult[8];

            memcpy(mult, &k[block - 10], sizeof mult);
#endif
            memcpy(acc, k, sizeof acc);
            for (int32_t b = 0; b < (QCC_BLOCKS * turns); b++) {
#if QCC_FLIP
                uint8_t part[16];

                qcc_mve_copy(part, &from[16 * b], 16, flip);
#else
                const uint8_t *part = &from[16 * b];
#endif
                for (int32_t q = 0; q < 8; q++) {
                    acc[q] = qcc_mve_dot16(acc[q], part, wp);
                    wp += 16;
                }
            }
            for (int32_t q = 0; q < 8; q++) {
#if QCC_FORM == 1
                at[q] = (uint8_t)qcc_mve_scaled(acc[q], mult[q], shift[q], lo, hi);
#else
                at[q] = (uint8_t)qcc_mve_shifted(acc[q], shift[q], lo, hi);
#endif
            }
            at += 8;
            k += block;
        }
#endif
        if (end == last) {
            break;
        }
        at += rest - 8;
        end = last;
    }
    if (o < 8) {
        memcpy(y, few, (size_t)o);
    }
}

#undef QCC_FN
#undef QCC_BLOCKS
#undef QCC_FORM
#undef QCC_COPY
#undef QCC_FLIP
