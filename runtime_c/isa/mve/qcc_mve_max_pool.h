/**
 * @file qcc_mve_max_pool.h
 * @brief The largest value of each window, 16 channels at a time.
 *
 * A kernel template: define QCC_FN (function name) and QCC_X (int8_t or uint8_t) and include it.
 *
 *   y[i][j][k] = max over u, v of x[i*sh + u*dh - pt][j*sw + v*dw - pl][k]
 * taps outside the input are skipped; every window has one inside.
 *
 * @param[in]  x  [h][w][c]
 * @param[out] y  [oh][ow][c]
 */
#include "qcc_mve.h"

#if QCC_MVE && !defined(QCC_MVE_MAX_POOL)
#define QCC_MVE_MAX_POOL
static inline uint8x16_t qcc_mve_larger_uint8_t(uint8x16_t best, const uint8_t *x, mve_pred16_t p)
{
    return vmaxq_u8(best, vld1q_z_u8(x, p));
}

static inline uint8x16_t qcc_mve_larger_int8_t(uint8x16_t best, const int8_t *x, mve_pred16_t p)
{
    return vreinterpretq_u8_s8(vmaxq_s8(vreinterpretq_s8_u8(best), vld1q_z_s8(x, p)));
}
#endif

QCC_MVE_FN void QCC_FN(const QCC_X *x, QCC_X *y, int32_t h, int32_t w, int32_t c, int32_t oh, int32_t ow, int32_t kh,
                       int32_t kw, int32_t sh, int32_t sw, int32_t dh, int32_t dw, int32_t pt, int32_t pl)
{
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
            int32_t v0 = 0;
            int32_t v1 = kw;

            while ((v0 < v1) && ((left + (v0 * dw)) < 0)) {
                v0++;
            }
            while ((v0 < v1) && ((left + ((v1 - 1) * dw)) >= w)) {
                v1--;
            }
            for (int32_t k = 0; k < c; k += 16) {
                const int32_t live = ((c - k) < 16) ? (c - k) : 16;
                const QCC_X *line = &x[((((top + (u0 * dh)) * w) + left + (v0 * dw)) * c) + k];
#if QCC_MVE
                const mve_pred16_t p = vctp8q((uint32_t)live);
                uint8x16_t best = vld1q_z_u8((const uint8_t *)line, p);
#else
                QCC_X best[16];

                memcpy(best, line, (size_t)live);
#endif

                for (int32_t u = u0; u < u1; u++) {
                    const QCC_X *at = line;

                    for (int32_t v = v0; v < v1; v++) {
#if QCC_MVE
                        best = QCC_MVE_NAME(qcc_mve_larger_, QCC_X)(best, at, p);
#else
                        for (int32_t q = 0; q < live; q++) {
                            best[q] = (at[q] > best[q]) ? at[q] : best[q];
                        }
#endif
                        at += dw * c;
                    }
                    line += dh * w * c;
                }
#if QCC_MVE
                vst1q_p_u8((uint8_t *)&y[k], best, p);
#else
                memcpy(&y[k], best, (size_t)live);
#endif
            }
            y += c;
        }
    }
}

#undef QCC_FN
#undef QCC_X
