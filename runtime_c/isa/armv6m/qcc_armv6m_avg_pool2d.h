/**
 * @file qcc_armv6m_avg_pool2d.h
 * @brief Mean of each window, NHWC: qcc_avg_pool2d.h with fewer instructions a tap on ARMv6-M.
 *
 * A kernel template: define QCC_FN (function name), QCC_X, QCC_Y (element types), QCC_ACC
 * (accumulator type) and QCC_RESCALE (a function of qcc_arith.h) and include it; it may be
 * included again with other definitions. The macros are undefined at its end.
 *
 *   y[i][j][k] = rescale(b[e] + sum over u, v of x[i*sh + u*dh - pt][j*sw + v*dw - pl][k])
 * taps outside the input count as zero; e = rows[i] + cols[j] picks the multiplier, which includes
 * 1/count of the window. The compiler has bounded the sum below the range of QCC_ACC. All of a
 * pixel's window is read until its last channel is written.
 *
 * @param[in]  x      [h][w][c]
 * @param[in]  b      the rounding half where the rescale is a shift, else 0; entry e
 * @param[in]  mult   multipliers, entry e, or NULL
 * @param[in]  shift  right shifts, entry e
 * @param[in]  rows   [oh], or NULL where all windows share entry 0
 * @param[in]  cols   [ow], or NULL with rows
 * @param[out] y      [oh][ow][c]
 */
#include "qcc_armv6m.h"

/** All channels of a window of u rows, v columns. */
static QCC_NOINLINE void QCC_ARMV6M_NAME(QCC_FN, _window)(const QCC_X *x, QCC_Y *y, int32_t c, int32_t u, int32_t v,
                                                          int32_t step, int32_t pitch, QCC_ACC b, int32_t mult,
                                                          int32_t shift, int32_t lo, int32_t hi)
{
    for (; c > 0; c--) {
        const QCC_X *row = x;
        QCC_ACC acc = b;

        for (int32_t r = u; r > 0; r--) {
            const QCC_X *at = row;
            int32_t n = v;

            for (; n >= 2; n -= 2) {
                acc += (QCC_ACC)*at;
                at += step;
                acc += (QCC_ACC)*at;
                at += step;
            }
            if (n > 0) {
                acc += (QCC_ACC)*at;
            }
            row += pitch;
        }
        *y = (QCC_Y)QCC_RESCALE(acc, mult, shift, lo, hi);
        x++;
        y++;
    }
}

static inline void QCC_FN(const QCC_X *x, const QCC_ACC *b, const int32_t *mult, const uint8_t *shift,
                                const uint16_t *rows, const uint16_t *cols, QCC_Y *y, int32_t h, int32_t w,
                                int32_t c, int32_t oh, int32_t ow, int32_t kh, int32_t kw, int32_t sh, int32_t sw,
                                int32_t dh, int32_t dw, int32_t pt, int32_t pl, int32_t lo, int32_t hi)
{
    for (int32_t i = 0; i < oh; i++) {
        int32_t top = (i * sh) - pt;
        int32_t u = kh; /* rows of the window that lie inside, the first of them is top */

        for (; top < 0; top += dh) {
            u--;
        }
        while ((u > 0) && ((top + ((u - 1) * dh)) >= h)) {
            u--;
        }
        for (int32_t j = 0; j < ow; j++) {
            const int32_t e = ((rows != NULL) && (cols != NULL)) ? ((int32_t)rows[i] + (int32_t)cols[j]) : 0;
            int32_t left = (j * sw) - pl;
            int32_t v = kw;
            const QCC_X *first;

            for (; left < 0; left += dw) {
                v--;
            }
            while ((v > 0) && ((left + ((v - 1) * dw)) >= w)) {
                v--;
            }
            first = x;
            if ((u > 0) && (v > 0)) {
                first += ((top * w) + left) * c;
            }
            QCC_ARMV6M_NAME(QCC_FN, _window)(first, y, c, (v > 0) ? u : 0, v, dw * c, dh * w * c, b[e],
                                             (mult != NULL) ? mult[e] : 1, (int32_t)shift[e], lo, hi);
            y += c;
        }
    }
}

#undef QCC_FN
#undef QCC_X
#undef QCC_Y
#undef QCC_ACC
#undef QCC_RESCALE
