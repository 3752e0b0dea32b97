/**
 * @file qcc_conv2d_binary.h
 * @brief Convolution, NHWC, of bits: inputs and outputs 0 or 1, weights -1 or +1.
 *
 * A kernel template: define QCC_FN (function name) and include it; it may be included again with
 * another name. The macro is undefined at its end.
 *
 * Where M inputs of a window are 1 and P of those meet a weight of +1, the sum of products is
 * 2 * P - M. The output is 1 from some sum t[o] on, so with K = kh * kw * c and I = K - M inputs
 * that are 0 it is 1 if 2 * P + I >= t[o] + K, which is
 *   P + ceil(I / 2) >= ceil((t[o] + K + I % 2) / 2)
 * Only inputs that are 1 are counted, 32 channels at a time. All of a window is read before its
 * outputs are written.
 *
 * @param[in]  x        [h][w][c], 0 or 1
 * @param[in]  wt       [ceil(oc / 32)][K + 1] words of a bit per channel, set for +1; the last one is 0
 * @param[in]  at       [2][ceil(oc / 32)][slices] the right side, for even and odd I, at most K + 1
 * @param[out] y        [oh][ow][oc]
 * @param[in]  scratch  2 * (K + 7) bytes, aligned to 2; K < 2^16
 * @param[in]  slices   that K + 1 takes, at least 4
 */
#include "qcc_binary.h"

static inline void QCC_FN(const uint8_t *x, const uint32_t *wt, const uint32_t *at, uint8_t *y, void *scratch,
                          int32_t h, int32_t w, int32_t c, int32_t oh, int32_t ow, int32_t oc, int32_t kh,
                          int32_t kw, int32_t sh, int32_t sw, int32_t dh, int32_t dw, int32_t pt, int32_t pl,
                          int32_t slices)
{
    uint16_t *const list = (uint16_t *)scratch;
    const int32_t taps = kh * kw * c;

    for (int32_t i = 0; i < oh; i++) {
        for (int32_t j = 0; j < ow; j++) {
            const uint32_t *wo = wt;
            const uint32_t *to;
            uint16_t *end = list; /* of the numbers of inputs that are 1 */
            int32_t tap = 0;
            int32_t zeros;

            for (int32_t u = 0; u < kh; u++) {
                const int32_t row = ((i * sh) - pt) + (u * dh);

                for (int32_t v = 0; v < kw; v++) {
                    const int32_t column = ((j * sw) - pl) + (v * dw);

                    if ((row >= 0) && (row < h) && (column >= 0) && (column < w)) {
                        end = qcc_binary_list(&x[((row * w) + column) * c], c, tap, end);
                    }
                    tap += c;
                }
            }
            zeros = taps - (int32_t)(end - list);
            to = &at[((zeros & 1) != 0) ? (((oc + 31) >> 5) * slices) : 0];
            for (int32_t left = (zeros - taps) & 7; left > 0; left--) {
                *end = (uint16_t)taps;
                end++;
            }
            for (int32_t left = oc; left > 0; left -= 32) {
                const int32_t channels = (left < 32) ? left : 32;
                uint32_t counts[QCC_BINARY_SLICES];

                qcc_binary_count(wo, list, (int32_t)(end - list), (uint32_t)(zeros + 1) >> 1, counts, slices);
                qcc_binary_store(y, qcc_binary_reaches(counts, to, slices), channels);
                y += channels;
                wo += taps + 1;
                to += slices;
            }
        }
    }
}

#undef QCC_FN
