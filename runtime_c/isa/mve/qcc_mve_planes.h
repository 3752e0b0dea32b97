/**
 * @file qcc_mve_planes.h
 * @brief Depthwise convolution from channel planes: a window is one vector, an output one VMLADAV.
 *
 * A kernel template: define QCC_FN (function name) and the constants below and include it.
 *   QCC_TAPS  kh * kw, at most 32
 *   QCC_STEP  sw * kh, bytes from window to window, at most 15
 *   QCC_KIND  0: a window in a vector, 1: two windows in a vector (QCC_STEP + QCC_TAPS <= 16),
 *             2: a window in two vectors
 *   QCC_FORM  0: a shift per channel; 1: a multiplier and a shift (qcc_mve.h)
 *   QCC_LO    least output
 *
 * Per input channel g and output channel o = g * og + m of it:
 *   y[i][j][o] = rescale(b[o] + sum over u, v of x[i*sh + u - pt][j*sw + v - pl][g] * w[o][v][u])
 * Every channel has a plane in scratch memory, [column][row % kh]: the rows that a line of outputs
 * needs, each value written once, the newest row over the oldest. The window of pixel j is QCC_TAPS
 * bytes at j * QCC_STEP, its rows rotated; the weights are rotated alike as they are gathered,
 * lanes beyond them are zero. Eight outputs of a channel are rescaled together and scattered.
 *
 * The sums are modulo 2^32; the compiler has bounded the true accumulator below 2^31.
 *
 * @param[in]  x        [h][w][c]
 * @param[in]  k        per output channel: bias, shift (negative), QCC_FORM: multiplier, and the
 *                      weights [kw][kh] and a zero, padded to words
 * @param[out] y        [oh][ow][c * og]
 * @param[out] scratch  32 * kh bytes, c rounded up to 8 planes, and 8 * QCC_STEP + 32 bytes
 * @param[in]  flip     128 where x is unsigned, else 0
 * @param[in]  columns  of a plane: (ow - 1) * sw + kw
 */
#include "qcc_mve.h"

#ifndef QCC_MVE_PLANES_H
#define QCC_MVE_PLANES_H

/** Nothing, for rows outside the input. */
static const uint8_t qcc_mve_zeros[8] = {0, 0, 0, 0, 0, 0, 0, 0};

/** One row of up to 8 channels to their planes: plane[q * size + t * kh] = x[t * pitch + q] ^ flip. */
QCC_MVE_FN void qcc_mve_to_planes(uint8_t *plane, int32_t size, int32_t kh, const uint8_t *x, int32_t pitch,
                                  int32_t live, int32_t count, int32_t flip)
{
#if QCC_MVE
    const uint16x8_t to = vmulq_n_u16(vidupq_n_u16(0u, 1), (uint16_t)size);
    const uint16x8_t f = vdupq_n_u16((uint16_t)flip);

    if (live >= 8) {
        for (; count > 0; --count) {
            vstrbq_scatter_offset_u16(plane, to, veorq_u16(vldrbq_u16(x), f));
            x += pitch;
            plane += kh;
        }
    } else {
        const mve_pred16_t p = vctp16q((uint32_t)live);

        for (; count > 0; --count) {
            vstrbq_scatter_offset_u16(plane, to, veorq_u16(vldrbq_z_u16(x, p), f));
            x += pitch;
            plane += kh;
        }
    }
#else
    for (int32_t t = 0; t < count; t++) {
        for (int32_t q = 0; (q < 8) && (q < live); q++) {
            plane[(q * size) + (t * kh)] = (uint8_t)(x[(t * pitch) + q] ^ (uint8_t)flip);
        }
    }
#endif
}

/**
 * For each slot that the window's first row may have, which weight belongs in which lane: at[0..15]
 * and at[16..31], the entry after the last weight in lanes that have none. With *shift* the second
 * vector is the first one, moved by so many lanes.
 */
QCC_MVE_FN void qcc_mve_rotations(uint8_t *at, int32_t kh, int32_t kw, int32_t shift)
{
    for (int32_t first = 0; first < kh; first++) {
        int32_t lane = 0;

        memset(at, kh * kw, 32);
        for (int32_t v = 0; v < kw; v++) {
            for (int32_t slot = 0; slot < kh; slot++) {
                const int32_t u = (slot >= first) ? (slot - first) : (slot - first + kh);

                at[lane] = (uint8_t)((v * kh) + u);
                if (shift != 0) {
                    at[16 + shift + lane] = at[lane];
                }
                lane++;
            }
        }
        at += 32;
    }
}

#endif /* QCC_MVE_PLANES_H */

#define QCC_RECORD ((4 * (2 + QCC_FORM)) + (((QCC_TAPS + 4) / 4) * 4)) /* bytes of k per channel */

#if QCC_MVE_ASM && !defined(QCC_MVE_PLANES_ASM)
#define QCC_MVE_PLANES_ASM
/* The even outputs of eight in r0 to r6, the odd ones in r8 to lr. */
#define QCC_MVE_TWO(Q, A, B)                                                                                  \
    "vldrb.8 " Q ", [%[s]], #2*" QCC_MVE_STRING(QCC_STEP) "\n\t"                                             \
    "vmladav.s8 " A ", " Q ", q4\n\t"                                                                         \
    "vmladav.s8 " B ", " Q ", q5\n\t"
#define QCC_MVE_ONE(Q, A)                                                                                     \
    "vldrb.8 " Q ", [%[s]], #" QCC_MVE_STRING(QCC_STEP) "\n\t"                                               \
    "vmladav.s8 " A ", " Q ", q4\n\t"
#define QCC_MVE_LONG(A)                                                                                       \
    "vldrb.8 q1, [%[s], #16]\n\t"                                                                             \
    "vldrb.8 q0, [%[s]], #" QCC_MVE_STRING(QCC_STEP) "\n\t"                                                  \
    "vmladav.s8 " A ", q1, q5\n\t"                                                                            \
    "vmladava.s8 " A ", q0, q4\n\t"
#define QCC_MVE_SUMS_1                                                                                        \
    QCC_MVE_TWO("q0", "r0", "r8") QCC_MVE_TWO("q1", "r2", "r10")                                              \
    QCC_MVE_TWO("q0", "r4", "r12") QCC_MVE_TWO("q1", "r6", "lr")
#define QCC_MVE_SUMS_0                                                                                        \
    QCC_MVE_ONE("q0", "r0") QCC_MVE_ONE("q1", "r8") QCC_MVE_ONE("q0", "r2") QCC_MVE_ONE("q1", "r10")          \
    QCC_MVE_ONE("q0", "r4") QCC_MVE_ONE("q1", "r12") QCC_MVE_ONE("q0", "r6") QCC_MVE_ONE("q1", "lr")
#define QCC_MVE_SUMS_2                                                                                        \
    QCC_MVE_LONG("r0") QCC_MVE_LONG("r8") QCC_MVE_LONG("r2") QCC_MVE_LONG("r10")                              \
    QCC_MVE_LONG("r4") QCC_MVE_LONG("r12") QCC_MVE_LONG("r6") QCC_MVE_LONG("lr")
#define QCC_MVE_PLANE_RESCALE_0                                                                               \
    "ldm %[k], {r0, r2}\n\t"                                                                                  \
    "vadd.i32 q0, q0, r0\n\t"                                                                                 \
    "vadd.i32 q1, q1, r0\n\t"                                                                                 \
    "vshl.s32 q0, r2\n\t"                                                                                     \
    "vshl.s32 q1, r2\n\t"
#define QCC_MVE_PLANE_RESCALE_1                                                                               \
    "ldm %[k], {r0, r2, r4}\n\t"                                                                              \
    "vadd.i32 q0, q0, r0\n\t"                                                                                 \
    "vadd.i32 q1, q1, r0\n\t"                                                                                 \
    "vqdmulh.s32 q0, q0, r4\n\t"                                                                              \
    "vqdmulh.s32 q1, q1, r4\n\t"                                                                              \
    "vrshl.s32 q0, r2\n\t"                                                                                    \
    "vrshl.s32 q1, r2\n\t"
#endif


QCC_MVE_FN void QCC_FN(const void *x, const uint32_t *k, void *y, void *scratch, int32_t flip, int32_t h, int32_t w,
                       int32_t c, int32_t oh, int32_t ow, int32_t og, int32_t kh, int32_t kw, int32_t sh,
                       int32_t pt, int32_t pl, int32_t columns, int32_t hi)
{
    const int32_t out = c * og;
    const int32_t size = columns * kh;
    const int32_t count = ((columns - pl) < w) ? (columns - pl) : w; /* columns of x that are read */
    const int32_t lines = (og == 1) ? 1 : c;                         /* runs of channels, each of some planes */
    const int32_t run = (og == 1) ? c : og;
    const int32_t next = (og == 1) ? size : 0; /* from plane to plane in a run */
    uint8_t *const lanes = (uint8_t *)scratch;
    uint8_t *const planes = &lanes[32 * kh];
    uint8_t *to = (uint8_t *)y;
    int32_t loaded = -pt; /* rows before this one are in the planes */
    int32_t first = 0;    /* slot of the window's first row */
#if QCC_MVE_ASM
    const uint16x8_t apart = vmulq_n_u16(vidupq_n_u16(0u, 1), (uint16_t)out);
    const int16x8_t high = vdupq_n_s16((int16_t)hi);
    const int32_t eights = (ow + 7) / 8;
#endif

    qcc_mve_rotations(lanes, kh, kw, (QCC_KIND == 1) ? QCC_STEP : 0);
    qcc_mve_set(planes, (((c + 7) / 8) * 8 * size) + (8 * QCC_STEP) + 32, flip);
    for (int32_t i = 0; i < oh; i++) {
        const int32_t top = (i * sh) - pt;
        const uint8_t *const rotated = &lanes[32 * first];
        const uint32_t *at = k;
        uint8_t *row_out = to;

        for (int32_t u = 0; u < kh; u++) {
            const int32_t row = top + u;
            const int32_t slot = ((first + u) >= kh) ? (first + u - kh) : (first + u);
            const int32_t inside = ((row >= 0) && (row < h)) ? 1 : 0;

            for (int32_t g = 0; (g < c) && (row >= loaded); g += 8) {
                const uint8_t *from = (inside != 0) ? &((const uint8_t *)x)[(row * w * c) + g] : qcc_mve_zeros;

                qcc_mve_to_planes(&planes[(g * size) + (pl * kh) + slot], size, kh, from, (inside != 0) ? c : 0,
                                  c - g, count, flip);
            }
        }
        loaded = top + kh;
        first += sh;
        while (first >= kh) {
            first -= kh;
        }
        for (int32_t line = 0; line < lines; line++) {
            const uint32_t *const end = &at[run * (QCC_RECORD / 4)];
            const uint8_t *plane = &planes[line * size];
#if QCC_MVE_ASM
            const uint32_t near[4] = {(uint32_t)rotated, (uint32_t)(next - (eights * 8 * QCC_STEP)), (uint32_t)ow,
                                      (uint32_t)(1 - (eights * 8 * out))};
            const uint32x4_t kept = vld1q_u32(near); /* what has no register */
            const uint32x4_t far = vdupq_n_u32((uint32_t)end);
            register const uint32_t *rk __asm__("r1") = at;
            register uint8_t *ry __asm__("r3") = row_out;
            register int32_t rn __asm__("r5");
            register const uint8_t *rs __asm__("r9") = plane;
            register int32_t rstep __asm__("r11") = 8 * out;

            __asm__ volatile(
                "1:\n\t"
                "vmov r0, %[n], %q[kept][2], %q[kept][0]\n\t"
                "add r4, %[k], #4*(2+" QCC_MVE_STRING(QCC_FORM) ")\n\t"
                "vldrb.8 q0, [r0]\n\t"
                "vldrb.8 q1, [r0, #16]\n\t"
                "vldrb.u8 q4, [r4, q0]\n\t"
                "vldrb.u8 q5, [r4, q1]\n"
                "2:\n\t" QCC_MVE_NAME(QCC_MVE_SUMS_, QCC_KIND)
                "vmov q0[2], q0[0], r0, r4\n\t"
                "vmov q0[3], q0[1], r2, r6\n\t"
                "vmov q1[2], q1[0], r8, r12\n\t"
                "vmov q1[3], q1[1], r10, lr\n\t" QCC_MVE_NAME(QCC_MVE_PLANE_RESCALE_, QCC_FORM)
#if QCC_LO == 0
                "vqmovunb.s32 q0, q0\n\t"
                "vqmovunt.s32 q0, q1\n\t"
                "vmin.u16 q0, q0, %q[hi]\n\t"
#else
                "mov r6, #" QCC_MVE_STRING(QCC_LO) "\n\t"
                "vqmovnb.s32 q0, q0\n\t"
                "vqmovnt.s32 q0, q1\n\t"
                "vdup.16 q1, r6\n\t"
                "vmax.s16 q0, q0, q1\n\t"
                "vmin.s16 q0, q0, %q[hi]\n\t"
#endif
                "vctp.16 %[n]\n\t"
                "vpst\n\t"
                "vstrbt.16 q0, [%[y], %q[apart]]\n\t"
                "add %[y], %[y], %[step]\n\t"
                "subs %[n], %[n], #8\n\t"
                "bgt 2b\n\t"
                "vmov r0, r2, %q[kept][3], %q[kept][1]\n\t"
                "vmov r4, r6, %q[far][2], %q[far][0]\n\t"
                "add %[k], %[k], #" QCC_MVE_STRING(QCC_RECORD) "\n\t"
                "add %[s], %[s], r0\n\t"
                "add %[y], %[y], r2\n\t"
                "cmp %[k], r4\n\t"
                "bne 1b\n"
                : [k] "+r"(rk), [y] "+r"(ry), [s] "+r"(rs), [n] "=&r"(rn)
                : [step] "r"(rstep), [kept] "w"(kept), [far] "w"(far), [apart] "w"(apart), [hi] "w"(high)
                : "r0", "r2", "r4", "r6", "r8", "r10", "r12", "lr", "q0", "q1", "q4", "q5", "cc", "memory");
            at = rk;
            row_out = ry;
#else
            while (at != end) {
                const int8_t *const wt = (const int8_t *)&at[2 + QCC_FORM];
                int32_t bias;
                int32_t shift;
#if QCC_FORM == 1
                int32_t mult;

                memcpy(&mult, &at[2], sizeof mult);
#endif
                memcpy(&bias, at, sizeof bias);
                memcpy(&shift, &at[1], sizeof shift);
                for (int32_t j = 0; j < ow; j++) {
                    const uint8_t *s = &plane[j * QCC_STEP];
                    int32_t acc = bias;
#if QCC_MVE
                    const int8x16_t w0 = vldrbq_gather_offset_s8(wt, vld1q_u8(rotated));

                    acc = vmladavaq_s8(acc, vreinterpretq_s8_u8(vld1q_u8(s)), w0);
#if QCC_KIND == 2
                    acc = vmladavaq_s8(acc, vreinterpretq_s8_u8(vld1q_u8(&s[16])),
                                       vldrbq_gather_offset_s8(wt, vld1q_u8(&rotated[16])));
#endif
#else
                    for (int32_t t = 0; t < QCC_TAPS; t++) {
                        acc += ((int32_t)s[t] - (((s[t] & 0x80u) != 0u) ? 256 : 0)) * (int32_t)wt[rotated[t]];
                    }
#endif
#if QCC_FORM == 1
                    row_out[j * out] = (uint8_t)qcc_mve_scaled(acc, mult, shift, QCC_LO, hi);
#else
                    row_out[j * out] = (uint8_t)qcc_mve_shifted(acc, shift, QCC_LO, hi);
#endif
                }
                row_out++;
                plane += next;
                at += QCC_RECORD / 4;
            }
#endif
        }
        to += ow * out;
    }
}

#undef QCC_RECORD
#undef QCC_FN
#undef QCC_TAPS
#undef QCC_STEP
#undef QCC_KIND
#undef QCC_FORM
#undef QCC_LO
