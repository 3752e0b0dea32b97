/**
 * @file qcc_armv6m_conv_packed.h
 * @brief Convolution, NHWC, weights of 4 or 2 bits, eight pixels at a time: ARMv6-M.
 *
 * A kernel template: define QCC_FN (function name), QCC_BITS (of a weight, 4 or 2), QCC_SIGNED (1
 * where x is signed, else 0) and QCC_FORM (rescaling, see qcc_armv6m_eight.h) and include it; it may
 * be included again with other definitions. The macros are undefined at its end.
 *
 * The windows of eight output pixels are brought together in scratch memory, a half-word per value.
 *   y = rescale(sum of w * x)
 * The compiler has proved that each such sum fits 16 bits, with form 3 together with k.
 *
 * All windows are read before the first of their outputs is written: y may lie over x as long as
 * what follows them is not reached.
 *
 * @param[in]  x        [h][w][c], uint8_t or int8_t
 * @param[in]  wt       [oc][ceil(K * QCC_BITS / 32)] digits, K = kh * kw * c
 * @param[in]  k        [oc] records, see qcc_armv6m_eight.h
 * @param[in]  g        geometry, see qcc_armv6m_window.h
 * @param[out] y        [oh][ow][oc], uint8_t or int8_t
 * @param[in]  scratch  16 bytes per value, as many as whole words of weights, then 8 * oc bytes; aligned to 4
 */
#include "qcc_armv6m_gather.h"

static QCC_NOINLINE void QCC_FN(const void *x, const uint32_t *wt, const int32_t *k, const int16_t *g, void *y,
                                void *scratch, int32_t lo, int32_t hi)
{
    uint32_t *const q = (uint32_t *)scratch;
    uint16_t *const d = (uint16_t *)scratch;
    const int32_t oc = g[QCC_WINDOW_OC];
    const int32_t values = g[QCC_WINDOW_KH] * g[QCC_WINDOW_RUNS] * g[QCC_WINDOW_RUN] * g[QCC_WINDOW_C];
    const int32_t words = ((values * QCC_BITS) + 31) >> 5;
    const int32_t filled = words * (32 / QCC_BITS);
    uint8_t *const rest = (uint8_t *)&q[filled * QCC_ARMV6M_WORDS];
    /* Windows that lie side by side as the pixels do. */
    const int32_t plain = (g[QCC_WINDOW_KH] * g[QCC_WINDOW_RUNS] * g[QCC_WINDOW_RUN] * g[QCC_WINDOW_SH] *
                           g[QCC_WINDOW_SW] == 1) && (g[QCC_WINDOW_OH] == g[QCC_WINDOW_H]) &&
                          (g[QCC_WINDOW_OW] == g[QCC_WINDOW_W]) && (g[QCC_WINDOW_PT] == 0) && (g[QCC_WINDOW_PL] == 0);
    const uint8_t *from = (const uint8_t *)x;
    uint8_t *to = (uint8_t *)y;
    int32_t i = 0;
    int32_t j = 0;

    for (int32_t left = g[QCC_WINDOW_OH] * g[QCC_WINDOW_OW]; left > 0; left -= QCC_ARMV6M_PIXELS) {
        uint8_t *const out = (left < QCC_ARMV6M_PIXELS) ? rest : to;
        qcc_armv6m_eight eight = {q, &q[filled * QCC_ARMV6M_WORDS], {0, 0, 0, 0}, hi - lo, lo, k, out, oc, &out[oc]};

        for (int32_t n = 0; n < QCC_ARMV6M_PIXELS; n++) {
            qcc_armv6m_gather_zeros(&d[n + (values * QCC_ARMV6M_PIXELS)], filled - values);
            if (n >= left) {
                qcc_armv6m_gather_zeros(&d[n], values);
            } else if (plain != 0) {
                qcc_armv6m_gather_bytes(from, &d[n], values, QCC_SIGNED);
                from += values;
            } else {
                qcc_armv6m_gather((const uint8_t *)x, &d[n], g, i, j, QCC_SIGNED);
                j++;
                if (j == g[QCC_WINDOW_OW]) {
                    j = 0;
                    i++;
                }
            }
        }
        for (int32_t n = 0; n < QCC_ARMV6M_WORDS; n++) {
            /* The digits' offset is half a digit's range. */
            eight.start[n] = 0u - (qcc_armv6m_gather_ready(&q[n], words, QCC_BITS, QCC_SIGNED) << (QCC_BITS - 1));
        }
        qcc_armv6m_eight_pixels(&eight, wt, QCC_BITS, QCC_FORM);
        if (left < QCC_ARMV6M_PIXELS) {
            (void)memcpy(to, rest, (size_t)left * (size_t)oc);
        }
        to += QCC_ARMV6M_PIXELS * oc;
    }
}

#undef QCC_FN
#undef QCC_BITS
#undef QCC_SIGNED
#undef QCC_FORM
