/**
 * @file qcc_mve_conv.h
 * @brief Convolution by dot products of 16 bytes: 4 output channels x 2 pixels at a time.
 *
 * A kernel template: define QCC_FN (function name) and the constants below and include it.
 *   QCC_BLOCKS  blocks of 16 bytes of a window that are unrolled, 1 to 12
 *   QCC_LOOP    0: they are the whole window; 1: *turns* times as many are
 *   QCC_FORM    0: a shift per channel; 1: a multiplier and a shift (qcc_mve.h)
 *   QCC_LAYOUT  0: strip, 1: rows, 2: taps (qcc_mve_patch.h)
 *
 * Per group, and with the border and the flip of qcc_mve.h:
 *   y[i][j][o] = rescale(b[o] + sum over k of window(i, j)[k] * w[o][k])
 * *chunk* pixels of a row at a time are laid out in scratch memory; then each pair of pixels meets
 * all weights, which are read from beginning to end. A window takes a multiple of 16 bytes: weights
 * beyond it are zero, what the lanes read there is the next window's or stale. Eight accumulators
 * stay in the even registers, as VMLADAVA wants; two vectors are rescaled and stored at once. A
 * last pixel without a partner is computed twice. With o % 4 != 0 the first block has only so many
 * channels: what it stores beyond them, the next block overwrites.
 *
 * The sums are modulo 2^32; the compiler has bounded the true accumulator below 2^31.
 *
 * @param[in]  x        [h][w][pitch], c channels of each group
 * @param[in]  k        per group and block of 4 channels: b[4], w[blocks][4][16], QCC_FORM: mult[4],
 *                      and 4 bytes of shifts, negative
 * @param[out] y        [oh][ow][out], o channels of each group
 * @param[out] scratch  a chunk in its layout, and 16 bytes
 * @param[in]  flip     128 where x is unsigned, else 0
 * @param[in]  words    of k per group
 */
#include "qcc_mve.h"
#include "qcc_mve_patch.h"

#if QCC_MVE_ASM && !defined(QCC_MVE_CONV_ASM)
#define QCC_MVE_CONV_ASM
/* One block, x at the addresses X0 and X1: loads alternate with multiplications. */
#define QCC_MVE_BLOCK(X0, X1)                                                                                 \
    "vldrb.8 q0, " X0 "\n\t"                                                                                  \
    "vldrb.8 q2, [%[k]], #16\n\t"                                                                             \
    "vmladava.s8 r0, q0, q2\n\t"                                                                              \
    "vldrb.8 q1, " X1 "\n\t"                                                                                  \
    "vmladava.s8 r8, q1, q2\n\t"                                                                              \
    "vldrb.8 q3, [%[k]], #16\n\t"                                                                             \
    "vmladava.s8 r2, q0, q3\n\t"                                                                              \
    "vldrb.8 q2, [%[k]], #16\n\t"                                                                             \
    "vmladava.s8 r10, q1, q3\n\t"                                                                             \
    "vmladava.s8 r4, q0, q2\n\t"                                                                              \
    "vldrb.8 q3, [%[k]], #16\n\t"                                                                             \
    "vmladava.s8 r12, q1, q2\n\t"                                                                             \
    "vmladava.s8 r6, q0, q3\n\t"                                                                              \
    "vmladava.s8 lr, q1, q3\n\t"
/* The biases of both pixels. */
#define QCC_MVE_BEGIN                                                                                         \
    "ldm %[k], {r0, r2, r4, r6}\n\t"                                                                          \
    "ldm %[k]!, {r8, r10, r12, lr}\n\t"
/* Accumulators to vectors. */
#define QCC_MVE_GATHER                                                                                        \
    "vmov q0[2], q0[0], r0, r4\n\t"                                                                           \
    "vmov q0[3], q0[1], r2, r6\n\t"                                                                           \
    "vmov q1[2], q1[0], r8, r12\n\t"                                                                          \
    "vmov q1[3], q1[1], r10, lr\n\t"
#define QCC_MVE_RESCALE_0                                                                                     \
    "vldrb.s32 q2, [%[k]], #4\n\t"                                                                            \
    "vshl.s32 q0, q0, q2\n\t"                                                                                 \
    "vshl.s32 q1, q1, q2\n\t"
#define QCC_MVE_RESCALE_1                                                                                     \
    "vldrw.32 q2, [%[k]], #16\n\t"                                                                            \
    "vqdmulh.s32 q0, q0, q2\n\t"                                                                              \
    "vldrb.s32 q3, [%[k]], #4\n\t"                                                                            \
    "vqdmulh.s32 q1, q1, q2\n\t"                                                                              \
    "vrshl.s32 q0, q0, q3\n\t"                                                                                \
    "vrshl.s32 q1, q1, q3\n\t"
#define QCC_MVE_CLAMP                                                                                         \
    "vmax.s32 q0, q0, %q[lo]\n\t"                                                                             \
    "vmax.s32 q1, q1, %q[lo]\n\t"                                                                             \
    "vmin.s32 q0, q0, %q[hi]\n\t"                                                                             \
    "vmin.s32 q1, q1, %q[hi]\n\t"
/* Pointers that have no register wait in the lanes of a vector. */
#define QCC_MVE_NEXT                                                                                          \
    "cmp %[k], r0\n\t"                                                                                        \
    "bne 1b\n"
/* The blocks of a window from its beginning, or from byte 64 for more than 8. */
#define QCC_MVE_AT(O) QCC_MVE_BLOCK("[%[x0], #" #O "]", "[%[x1], #" #O "]")
#define QCC_MVE_AT_1 QCC_MVE_AT(0)
#define QCC_MVE_AT_2 QCC_MVE_AT_1 QCC_MVE_AT(16)
#define QCC_MVE_AT_3 QCC_MVE_AT_2 QCC_MVE_AT(32)
#define QCC_MVE_AT_4 QCC_MVE_AT_3 QCC_MVE_AT(48)
#define QCC_MVE_AT_5 QCC_MVE_AT_4 QCC_MVE_AT(64)
#define QCC_MVE_AT_6 QCC_MVE_AT_5 QCC_MVE_AT(80)
#define QCC_MVE_AT_7 QCC_MVE_AT_6 QCC_MVE_AT(96)
#define QCC_MVE_AT_8 QCC_MVE_AT_7 QCC_MVE_AT(112)
#define QCC_MVE_AT_9 QCC_MVE_AT(-64) QCC_MVE_AT(-48) QCC_MVE_AT(-32) QCC_MVE_AT(-16) QCC_MVE_AT_5
#define QCC_MVE_AT_10 QCC_MVE_AT_9 QCC_MVE_AT(80)
#define QCC_MVE_AT_11 QCC_MVE_AT_10 QCC_MVE_AT(96)
#define QCC_MVE_AT_12 QCC_MVE_AT_11 QCC_MVE_AT(112)
#endif

QCC_MVE_FN void QCC_FN(const void *x, const uint32_t *k, void *y, void *scratch, int32_t flip, int32_t h,
                       int32_t w, int32_t pitch, int32_t c, int32_t oh, int32_t ow, int32_t out, int32_t o,
                       int32_t groups, int32_t words, int32_t kh, int32_t kw, int32_t sh, int32_t sw,
                       int32_t dh, int32_t dw, int32_t pt, int32_t pl, int32_t chunk, int32_t turns,
                       int32_t lo, int32_t hi)
{
    qcc_mve_window g;
    const int32_t block = 4 + (4 * QCC_FORM) + 1 + (16 * QCC_BLOCKS * turns); /* words per 4 channels */
    uint8_t *const patch = (uint8_t *)scratch;
    uint8_t *to = (uint8_t *)y;
#if QCC_LAYOUT == 0
    const int32_t step = sw * kh * c; /* from window to window */
#else
    const int32_t step = kh * kw * c;
#endif
    const int32_t rest = o & 3;
#if QCC_MVE_ASM
    const int32x4_t low = vdupq_n_s32(lo);
    const int32x4_t high = vdupq_n_s32(hi);
#endif

    g.x = (const uint8_t *)x;
    g.flip = flip;
    g.h = h;
    g.w = w;
    g.pitch = pitch;
    g.c = c;
    g.kh = kh;
    g.kw = kw;
    g.sw = sw;
    g.dh = dh;
    g.dw = dw;
    for (int32_t group = 0; group < groups; group++) {
        const uint32_t *const last = &k[words];

        for (int32_t i = 0; i < oh; i++) {
            uint8_t *row = &to[i * ow * out];

            for (int32_t j0 = 0; j0 < ow; j0 += chunk) {
                const int32_t n = ((ow - j0) < chunk) ? (ow - j0) : chunk;
                const int32_t top = (i * sh) - pt;
                const int32_t left = (j0 * sw) - pl;
                const uint8_t *p0 = patch;

#if QCC_LAYOUT == 0
                qcc_mve_strip(&g, patch, top, left, ((n - 1) * sw) + kw);
#elif QCC_LAYOUT == 1
                qcc_mve_rows(&g, patch, top, left, n);
#else
                qcc_mve_taps(&g, patch, top, left, n);
#endif
                for (int32_t j = 0; j < n; j += 2) {
                    const int32_t two = ((j + 1) < n) ? 1 : 0;
                    const uint8_t *p1 = (two != 0) ? &p0[step] : p0;
                    uint8_t few[8]; /* outputs of two pixels with fewer than 4 channels */
                    uint8_t *y0 = (o < 4) ? few : row;
                    uint8_t *y1 = (o < 4) ? &few[4] : ((two != 0) ? &row[out] : row);
                    const uint32_t *at = k;
                    const uint32_t *end = (rest != 0) ? &k[block] : last;

                    for (;;) {
#if QCC_MVE_ASM
                        register const uint32_t *rk __asm__("r1") = at;
                        register uint8_t *ry0 __asm__("r3") = y0;
#if QCC_LOOP == 0
                        register uint8_t *ry1 __asm__("r5") = y1;
                        register const uint8_t *rx0 __asm__("r9") = &p0[(QCC_BLOCKS > 8) ? 64 : 0];
                        register const uint8_t *rx1 __asm__("r11") = &p1[(QCC_BLOCKS > 8) ? 64 : 0];
                        const uint32x4_t kept = vdupq_n_u32((uint32_t)end);

                        __asm__ volatile(
                            "1:\n\t" QCC_MVE_BEGIN
                            QCC_MVE_NAME(QCC_MVE_AT_, QCC_BLOCKS) QCC_MVE_GATHER
                            QCC_MVE_NAME(QCC_MVE_RESCALE_, QCC_FORM) QCC_MVE_CLAMP
                            "vstrb.32 q0, [%[y0]], #4\n\t"
                            "vstrb.32 q1, [%[y1]], #4\n\t"
                            "vmov r0, r2, %q[kept][2], %q[kept][0]\n\t" QCC_MVE_NEXT
                            : [k] "+r"(rk), [y0] "+r"(ry0), [y1] "+r"(ry1)
                            : [x0] "r"(rx0), [x1] "r"(rx1), [kept] "w"(kept), [lo] "w"(low), [hi] "w"(high)
                            : "r0", "r2", "r4", "r6", "r8", "r10", "r12", "lr", "q0", "q1", "q2", "q3", "cc",
                              "memory");
                        y1 = ry1;
#else
                        const int32_t apart = (int32_t)(y1 - y0);
                        const uint32_t lanes[4] = {(uint32_t)p0, (uint32_t)end, (uint32_t)p1, (uint32_t)apart};
                        const uint32x4_t kept = vld1q_u32(lanes);
                        register const uint8_t *past __asm__("r5") = &p0[16 * QCC_BLOCKS * turns];
                        register const uint8_t *rx0 __asm__("r9");
                        register const uint8_t *rx1 __asm__("r11");

                        __asm__ volatile(
                            "1:\n\t" QCC_MVE_BEGIN
                            "vmov %[x0], %[x1], %q[kept][2], %q[kept][0]\n"
                            "2:\n\t"
                            QCC_MVE_NAME(QCC_MVE_TIMES_, QCC_BLOCKS)
                            (QCC_MVE_BLOCK("[%[x0]], #16", "[%[x1]], #16"))
                            "cmp %[x0], %[past]\n\t"
                            "bne 2b\n\t" QCC_MVE_GATHER
                            QCC_MVE_NAME(QCC_MVE_RESCALE_, QCC_FORM) QCC_MVE_CLAMP
                            "vmov r0, r2, %q[kept][3], %q[kept][1]\n\t"
                            "add r2, r2, %[y0]\n\t"
                            "vstrb.32 q0, [%[y0]], #4\n\t"
                            "vstrb.32 q1, [r2]\n\t" QCC_MVE_NEXT
                            : [k] "+r"(rk), [y0] "+r"(ry0), [x0] "=&r"(rx0), [x1] "=&r"(rx1)
                            : [past] "r"(past), [kept] "w"(kept), [lo] "w"(low), [hi] "w"(high)
                            : "r0", "r2", "r4", "r6", "r8", "r10", "r12", "lr", "q0", "q1", "q2", "q3", "cc",
                              "memory");
                        y1 = &ry0[apart];
#endif
                        at = rk;
                        y0 = ry0;
#else
                        while (at != end) {
                            const int8_t *wp = (const int8_t *)&at[4];
                            const int8_t *shift = (const int8_t *)&at[block - 1];
                            int32_t bias[4];
                            int32_t acc[8];
#if QCC_FORM == 1
                            int32_t mult[4];

                            memcpy(mult, &at[block - 5], sizeof mult);
#endif
                            memcpy(bias, at, sizeof bias);
                            for (int32_t q = 0; q < 8; q++) {
                                acc[q] = bias[q & 3];
                            }
                            for (int32_t b = 0; b < (QCC_BLOCKS * turns); b++) {
                                for (int32_t q = 0; q < 4; q++) {
                                    acc[q] = qcc_mve_dot16(acc[q], &p0[16 * b], wp);
                                    acc[q + 4] = qcc_mve_dot16(acc[q + 4], &p1[16 * b], wp);
                                    wp += 16;
                                }
                            }
                            for (int32_t q = 0; q < 4; q++) {
#if QCC_FORM == 1
                                y0[q] = (uint8_t)qcc_mve_scaled(acc[q], mult[q], shift[q], lo, hi);
                                y1[q] = (uint8_t)qcc_mve_scaled(acc[q + 4], mult[q], shift[q], lo, hi);
#else
                                y0[q] = (uint8_t)qcc_mve_shifted(acc[q], shift[q], lo, hi);
                                y1[q] = (uint8_t)qcc_mve_shifted(acc[q + 4], shift[q], lo, hi);
#endif
                            }
                            y0 += 4;
                            y1 += 4;
                            at += block;
                        }
#endif
                        if (end == last) {
                            break;
                        }
                        y0 += rest - 4;
                        y1 += rest - 4;
                        end = last;
                    }
                    if (o < 4) {
                        memcpy(row, few, (size_t)o);
                        if (two != 0) {
                            memcpy(&row[out], &few[4], (size_t)o);
                        }
                    }
                    row += (1 + two) * out;
                    p0 += (1 + two) * step;
                }
            }
        }
        k = last;
        g.x += c;
        to += o;
    }
}

#undef QCC_FN
#undef QCC_BLOCKS
#undef QCC_LOOP
#undef QCC_FORM
#undef QCC_LAYOUT
