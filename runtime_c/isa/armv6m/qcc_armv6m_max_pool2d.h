/**
 * @file qcc_armv6m_max_pool2d.h
 * @brief Largest value of each window, NHWC: qcc_max_pool2d.h with fewer instructions a tap on ARMv6-M.
 *
 * A kernel template: define QCC_FN (function name) and QCC_X (element type) and include it; it
 * may be included again with other definitions. The macros are undefined at its end.
 *
 *   y[i][j][k] = max over u, v of x[i*sh + u*dh - pt][j*sw + v*dw - pl][k]
 * taps outside the input are skipped; every window has one inside. All of a pixel's window is read
 * until its last channel is written.
 *
 * @param[in]  x  [h][w][c]
 * @param[out] y  [oh][ow][c]
 */
#include "qcc_armv6m.h"

/** All channels of a window of u rows, v columns. */
static QCC_NOINLINE void QCC_ARMV6M_NAME(QCC_FN, _window)(const QCC_X *x, QCC_X *y, int32_t c, int32_t u, int32_t v,
                                                          int32_t step, int32_t pitch)
{
    for (; c > 0; c--) {
        const QCC_X *row = x;
        int32_t best = *row;

        for (int32_t r = u; r > 0; r--) {
            const QCC_X *at = row;

            for (int32_t n = v; n > 0; n--) {
                const int32_t a = *at;

                if (a > best) {
                    best = a;
                }
                at += step;
            }
            row += pitch;
        }
        *y = (QCC_X)best;
        x++;
        y++;
    }
}

static inline void QCC_FN(const QCC_X *x, QCC_X *y, int32_t h, int32_t w, int32_t c, int32_t oh, int32_t ow,
                                int32_t kh, int32_t kw, int32_t sh, int32_t sw, int32_t dh, int32_t dw,
                                int32_t pt, int32_t pl)
{
    for (int32_t i = 0; i < oh; i++) {
        int32_t top = (i * sh) - pt;
        int32_t u = kh; /* rows of the window that lie inside, the first of them is top */

        for (; top < 0; top += dh) {
            u--;
        }
        while ((top + ((u - 1) * dh)) >= h) {
            u--;
        }
        for (int32_t j = 0; j < ow; j++) {
            int32_t left = (j * sw) - pl;
            int32_t v = kw;
            const QCC_X *first;

            for (; left < 0; left += dw) {
                v--;
            }
            while ((left + ((v - 1) * dw)) >= w) {
                v--;
            }
            first = &x[((top * w) + left) * c];
            QCC_ARMV6M_NAME(QCC_FN, _window)(first, y, c, u, v, dw * c, dh * w * c);
            y += c;
        }
    }
}

#undef QCC_FN
#undef QCC_X
