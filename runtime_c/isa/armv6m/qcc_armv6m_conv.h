/**
 * @file qcc_armv6m_conv.h
 * @brief Convolution, NHWC, two pixels times four channels at a time: ARMv6-M.
 *
 * A kernel template: define QCC_FN (function name), QCC_JOIN (1 or 2: products that are added before
 * the pixels are told apart), QCC_FLIP (128 where x is signed, else 0) and QCC_FORM (rescaling, see
 * qcc_armv6m.h) and include it; it may be included again with other definitions. The macros are
 * undefined at its end.
 *
 * The windows of two output pixels are brought together in scratch memory, a word per value. With
 * u = w + z - q the stored weights, s the sum of a window's values and q what few large weights are
 * beyond the bytes that store them:
 *   y = rescale(sum of u * x - z * s + sum of q * x)
 * The compiler splits weights between u and q so that two neighbours' u together keep the products
 * of both below 2^16 (QCC_JOIN 2), and has bounded the accumulator |sum + k| below 2^31.
 *
 * Both windows are read before the first of their outputs is written: y may lie over x as long as
 * what follows them is not reached.
 *
 * @param[in]  x        [h][w][c], uint8_t or int8_t
 * @param[in]  wt       [ceil(oc / 4)][ceil(K / 2)][4][2] bytes u, K = kh * kw * c
 * @param[in]  k        [oc] records, see qcc_armv6m_pair.h
 * @param[in]  far      all q, see there
 * @param[in]  g        geometry, see qcc_armv6m_window.h
 * @param[out] y        [oh][ow][oc], uint8_t or int8_t
 * @param[in]  scratch  4 * (K + K % 2) bytes, aligned to 4
 */
#include "qcc_armv6m_pair.h"
#include "qcc_armv6m_window.h"

static QCC_NOINLINE void QCC_FN(const void *x, const uint8_t *wt, const int32_t *k, const uint8_t *far,
                                const int16_t *g, void *y, void *scratch, int32_t lo, int32_t hi)
{
    uint16_t *const p = (uint16_t *)scratch;
    const int32_t oc = g[QCC_WINDOW_OC];
    const int32_t values = g[QCC_WINDOW_KH] * g[QCC_WINDOW_RUNS] * g[QCC_WINDOW_RUN] * g[QCC_WINDOW_C];
    const int32_t n = values + (values & 1);
    qcc_armv6m_pair pair = {hi - lo, k, (uint8_t *)y, oc, oc, far, &p[2 * (n & ~7)], &p[2 * n], p, 0, 0, lo};
    int32_t i = 0;
    int32_t j = 0;

    p[(2 * n) - 2] = 0; /* what fills up an odd number of values */
    p[(2 * n) - 1] = 0;
    for (int32_t left = g[QCC_WINDOW_OH] * g[QCC_WINDOW_OW]; left > 0; left -= 2) {
        pair.first = qcc_armv6m_window((const uint8_t *)x, p, g, i, j, QCC_FLIP);
        if (left == 1) { /* it goes along with itself */
            pair.step = 0;
        } else {
            j++;
            if (j == g[QCC_WINDOW_OW]) {
                j = 0;
                i++;
            }
        }
        pair.second = qcc_armv6m_window((const uint8_t *)x, &p[1], g, i, j, QCC_FLIP);
        qcc_armv6m_pixels(&pair, wt, QCC_JOIN - 1, QCC_FORM);
        pair.y += 2 * oc;
        j++;
        if (j == g[QCC_WINDOW_OW]) {
            j = 0;
            i++;
        }
    }
}

#undef QCC_FN
#undef QCC_JOIN
#undef QCC_FLIP
#undef QCC_FORM
