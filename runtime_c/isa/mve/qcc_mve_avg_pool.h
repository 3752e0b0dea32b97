/**
 * @file qcc_mve_avg_pool.h
 * @brief The mean of each window, 8 channels at a time: averages and means over an image.
 *
 * A kernel template: define QCC_FN (function name), QCC_X (int8_t or uint8_t) and
 *   QCC_FORM  0: a shift; 1: a multiplier and a shift (qcc_mve.h)
 *   QCC_WIDE  0: the sum of a window fits 16 bits; 1: that of a row of it does
 * and include it.
 *
 *   y[i][j][c] = rescale(2^up * sum over u, v of x[i*sh + u*dh - pt][j*sw + v*dw - pl][c])
 * over the taps inside the input. The rescale includes 1/count; where windows at the border count
 * fewer values, each count has a rescale of its own, entry rows[i] + cols[j]. The compiler has
 * bounded the sum times 2^up below 2^31.
 *
 * @param[in]  x     [h][w][c]
 * @param[in]  k     per count: the rounding half (QCC_FORM 0), the multiplier, the shift, negative
 * @param[in]  rows  [oh], or NULL with cols if there is one entry
 * @param[in]  cols  [ow]
 * @param[out] y     [oh][ow][c]
 */
#include "qcc_mve.h"

#if QCC_MVE && !defined(QCC_MVE_AVG_POOL)
#define QCC_MVE_AVG_POOL
static inline int16x8_t qcc_mve_eight_uint8_t(const uint8_t *x, mve_pred16_t p)
{
    return vreinterpretq_s16_u16(vldrbq_z_u16(x, p));
}

static inline int16x8_t qcc_mve_eight_int8_t(const int8_t *x, mve_pred16_t p)
{
    return vldrbq_z_s16(x, p);
}
#endif

QCC_MVE_FN void QCC_FN(const QCC_X *x, const int32_t *k, const uint16_t *rows, const uint16_t *cols, void *y,
                       int32_t h, int32_t w, int32_t c, int32_t oh, int32_t ow, int32_t kh, int32_t kw, int32_t sh,
                       int32_t sw, int32_t dh, int32_t dw, int32_t pt, int32_t pl, int32_t up, int32_t lo,
                       int32_t hi)
{
    uint8_t *to = (uint8_t *)y;
#if QCC_MVE
    const int16x8_t least = vdupq_n_s16((int16_t)lo);
    const int16x8_t most = vdupq_n_s16((int16_t)hi);
#endif

    for (int32_t i = 0; i < oh; i++) {
        const int32_t top = (i * sh) - pt;
        int32_t u0 = 0;
        int32_t u1 = kh;

        while ((u0 < u1) && ((top + (u0 * dh)) < 0)) {
            u0++;
        }
        while ((u0 < u1) && ((top + ((u1 - 1) * dh)) >= h)) {
            u1--;
        }
        for (int32_t j = 0; j < ow; j++) {
            const int32_t left = (j * sw) - pl;
            const int32_t *const r = (rows != NULL) ? &k[3 * ((int32_t)rows[i] + (int32_t)cols[j])] : k;
            int32_t v0 = 0;
            int32_t v1 = kw;

            while ((v0 < v1) && ((left + (v0 * dw)) < 0)) {
                v0++;
            }
            while ((v0 < v1) && ((left + ((v1 - 1) * dw)) >= w)) {
                v1--;
            }
            for (int32_t g = 0; g < c; g += 8) {
                const int32_t live = ((c - g) < 8) ? (c - g) : 8;
                const QCC_X *line = &x[((((top + (u0 * dh)) * w) + left + (v0 * dw)) * c) + g];
#if QCC_MVE
                const mve_pred16_t p = vctp16q((uint32_t)live);
                int16x8_t sum = vdupq_n_s16(0);
                int32x4_t even = vdupq_n_s32(0);
                int32x4_t odd = vdupq_n_s32(0);
                int16x8_t v8;

                for (int32_t u = u0; u < u1; u++) {
                    const QCC_X *at = line;

                    for (int32_t v = v0; v < v1; v++) {
                        sum = vaddq_s16(sum, QCC_MVE_NAME(qcc_mve_eight_, QCC_X)(at, p));
                        at += dw * c;
                    }
#if QCC_WIDE
                    even = vaddq_s32(even, vmovlbq_s16(sum));
                    odd = vaddq_s32(odd, vmovltq_s16(sum));
                    sum = vdupq_n_s16(0);
#endif
                    line += dh * w * c;
                }
#if !QCC_WIDE
                even = vmovlbq_s16(sum);
                odd = vmovltq_s16(sum);
#endif
                even = vshlq_r_s32(even, up);
                odd = vshlq_r_s32(odd, up);
#if QCC_FORM == 1
                even = vrshlq_s32(vqdmulhq_n_s32(even, r[1]), vdupq_n_s32(r[2]));
                odd = vrshlq_s32(vqdmulhq_n_s32(odd, r[1]), vdupq_n_s32(r[2]));
#else
                even = vshlq_r_s32(vaddq_n_s32(even, r[0]), r[2]);
                odd = vshlq_r_s32(vaddq_n_s32(odd, r[0]), r[2]);
#endif
                v8 = vqmovntq_s32(vqmovnbq_s32(vdupq_n_s16(0), even), odd);
                v8 = vminq_s16(vmaxq_s16(v8, least), most);
                vstrbq_p_u16(&to[g], vreinterpretq_u16_s16(v8), p);
#else
                for (int32_t q = 0; q < live; q++) {
                    int32_t acc = 0;

                    for (int32_t u = u0; u < u1; u++) {
                        for (int32_t v = v0; v < v1; v++) {
                            acc += (int32_t)line[((((u - u0) * dh * w) + ((v - v0) * dw)) * c) + q];
                        }
                    }
                    acc *= (int32_t)((uint32_t)1 << up);
#if QCC_FORM == 1
                    to[g + q] = (uint8_t)qcc_mve_scaled(acc, r[1], r[2], lo, hi);
#else
                    to[g + q] = (uint8_t)qcc_mve_shifted(acc + r[0], r[2], lo, hi);
#endif
                }
#endif
            }
            to += c;
        }
    }
}

#undef QCC_FN
#undef QCC_X
#undef QCC_FORM
#undef QCC_WIDE
