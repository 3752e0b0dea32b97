/**
 * @file qcc_mve_depthwise.h
 * @brief Depthwise convolution with 8 channels in the lanes: any window, stride and dilation.
 *
 * A kernel template: define QCC_FN (function name), QCC_X (int8_t or uint8_t) and the constants
 *   QCC_FORM  0: a shift per channel; 1: a multiplier and a shift (qcc_mve.h)
 *   QCC_EACH  1: one output per channel; 0: *index* says which channel an output reads
 * and include it.
 *
 *   y[i][j][o] = rescale(b[o] + sum over u, v of x[i*sh + u*dh - pt][j*sw + v*dw - pl][g(o)] * w[u][v][o])
 * taps outside the input are skipped. Products are made in 32 bits, of even and of odd lanes; the
 * compiler has bounded the accumulator below 2^31.
 *
 * @param[in]  x      [h][w][c]
 * @param[in]  wt     [kh][kw][outs rounded up to 8]
 * @param[in]  k      per 8 outputs: biases of the even and of the odd ones, multipliers (QCC_FORM)
 *                    alike, and 8 bytes of shifts, negative, alike
 * @param[in]  index  [outs rounded up to 8], or NULL
 * @param[out] y      [oh][ow][outs]
 */
#include "qcc_mve.h"

#if QCC_MVE && !defined(QCC_MVE_DEPTHWISE)
#define QCC_MVE_DEPTHWISE
static inline int16x8_t qcc_mve_channels_uint8_t(const uint8_t *x, mve_pred16_t p)
{
    return vreinterpretq_s16_u16(vldrbq_z_u16(x, p));
}

static inline int16x8_t qcc_mve_channels_int8_t(const int8_t *x, mve_pred16_t p)
{
    return vldrbq_z_s16(x, p);
}

static inline int16x8_t qcc_mve_chosen_uint8_t(const uint8_t *x, uint16x8_t at, mve_pred16_t p)
{
    return vreinterpretq_s16_u16(vldrbq_gather_offset_z_u16(x, at, p));
}

static inline int16x8_t qcc_mve_chosen_int8_t(const int8_t *x, uint16x8_t at, mve_pred16_t p)
{
    return vldrbq_gather_offset_z_s16(x, at, p);
}
#endif

QCC_MVE_FN void QCC_FN(const QCC_X *x, const int8_t *wt, const uint32_t *k, const uint16_t *index, void *y, int32_t h,
                       int32_t w, int32_t c, int32_t oh, int32_t ow, int32_t outs, int32_t kh, int32_t kw,
                       int32_t sh, int32_t sw, int32_t dh, int32_t dw, int32_t pt, int32_t pl, int32_t lo,
                       int32_t hi)
{
    const int32_t padded = ((outs + 7) / 8) * 8;
    uint8_t *to = (uint8_t *)y;

    for (int32_t i = 0; i < oh; i++) {
        const int32_t top = (i * sh) - pt;
        int32_t u0 = 0; /* rows u0..u1 of the window lie inside */
        int32_t u1 = kh;

        while ((u0 < u1) && ((top + (u0 * dh)) < 0)) {
            u0++;
        }
        while ((u0 < u1) && ((top + ((u1 - 1) * dh)) >= h)) {
            u1--;
        }
        for (int32_t j = 0; j < ow; j++) {
            const int32_t left = (j * sw) - pl;
            const uint32_t *at = k;
            int32_t v0 = 0;
            int32_t v1 = kw;

            while ((v0 < v1) && ((left + (v0 * dw)) < 0)) {
                v0++;
            }
            while ((v0 < v1) && ((left + ((v1 - 1) * dw)) >= w)) {
                v1--;
            }
            for (int32_t o = 0; o < outs; o += 8) {
                const int32_t live = ((outs - o) < 8) ? (outs - o) : 8;
                const int8_t *const shift = (const int8_t *)&at[8 + (8 * QCC_FORM)];
#if QCC_MVE
                const mve_pred16_t p = vctp16q((uint32_t)live);
                const int16x8_t least = vdupq_n_s16((int16_t)lo);
                const int16x8_t most = vdupq_n_s16((int16_t)hi);
                int32x4_t even = vld1q_s32((const int32_t *)at);
                int32x4_t odd = vld1q_s32((const int32_t *)&at[4]);
                int16x8_t v8;
#if !QCC_EACH
                const uint16x8_t which = vld1q_u16(&index[o]);
#endif
#else
                int32_t acc[8];

                memcpy(acc, at, sizeof acc);
#endif
                for (int32_t u = u0; u < u1; u++) {
                    const QCC_X *xp = &x[(((top + (u * dh)) * w) + left + (v0 * dw)) * c];
                    const int8_t *wp = &wt[(((u * kw) + v0) * padded) + o];

                    for (int32_t v = v0; v < v1; v++) {
#if QCC_MVE
#if QCC_EACH
                        const int16x8_t x8 = QCC_MVE_NAME(qcc_mve_channels_, QCC_X)(&xp[o], p);
#else
                        const int16x8_t x8 = QCC_MVE_NAME(qcc_mve_chosen_, QCC_X)(xp, which, p);
#endif
                        const int16x8_t w8 = vldrbq_s16(wp);

                        even = vaddq_s32(even, vmullbq_int_s16(x8, w8));
                        odd = vaddq_s32(odd, vmulltq_int_s16(x8, w8));
#else
                        for (int32_t q = 0; q < live; q++) {
#if QCC_EACH
                            const int32_t value = xp[o + q];
#else
                            const int32_t value = xp[index[o + q]];
#endif

                            acc[((q & 1) * 4) + (q / 2)] += value * wp[q];
                        }
#endif
                        xp += dw * c;
                        wp += padded;
                    }
                }
#if QCC_MVE
#if QCC_FORM == 1
                even = vrshlq_s32(vqdmulhq_s32(even, vld1q_s32((const int32_t *)&at[8])), vldrbq_s32(shift));
                odd = vrshlq_s32(vqdmulhq_s32(odd, vld1q_s32((const int32_t *)&at[12])), vldrbq_s32(&shift[4]));
#else
                even = vshlq_s32(even, vldrbq_s32(shift));
                odd = vshlq_s32(odd, vldrbq_s32(&shift[4]));
#endif
                v8 = vqmovntq_s32(vqmovnbq_s32(vdupq_n_s16(0), even), odd);
                v8 = vminq_s16(vmaxq_s16(v8, least), most);
                vstrbq_p_u16(&to[o], vreinterpretq_u16_s16(v8), p);
#else
                for (int32_t q = 0; q < live; q++) {
                    const int32_t lane = ((q & 1) * 4) + (q / 2);
#if QCC_FORM == 1
                    int32_t mult[8];

                    memcpy(mult, &at[8], sizeof mult);
                    to[o + q] = (uint8_t)qcc_mve_scaled(acc[lane], mult[lane], shift[lane], lo, hi);
#else
                    to[o + q] = (uint8_t)qcc_mve_shifted(acc[lane], shift[lane], lo, hi);
#endif
                }
#endif
                at += 10 + (8 * QCC_FORM);
            }
            to += outs;
        }
    }
#if QCC_EACH
    (void)index;
#endif
}

#undef QCC_FN
#undef QCC_X
#undef QCC_FORM
#undef QCC_EACH
