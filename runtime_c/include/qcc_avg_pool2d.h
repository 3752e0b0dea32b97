/**
 * @file qcc_avg_pool2d.h
 * @brief Mean of each window, NHWC: the portable kernel.
 *
 * A kernel template: define QCC_FN (function name), QCC_X, QCC_Y (element types), QCC_ACC
 * (accumulator type) and QCC_RESCALE (a function of qcc_arith.h) and include it; it may be
 * included again with other definitions. The macros are undefined at its end.
 *
 *   y[i][j][k] = rescale(b[e] + sum over u, v of x[i*sh + u*dh - pt][j*sw + v*dw - pl][k])
 * taps outside the input count as zero; e = rows[i] + cols[j] picks the multiplier, which includes
 * 1/count of the window. The compiler has bounded the sum below the range of QCC_ACC.
 *
 * @param[in]  x      [h][w][c]
 * @param[in]  b      the rounding half where the rescale is a shift, else 0; entry e
 * @param[in]  mult   multipliers, entry e, or NULL
 * @param[in]  shift  right shifts, entry e
 * @param[in]  rows   [oh], or NULL where all windows share entry 0
 * @param[in]  cols   [ow], or NULL with rows
 * @param[out] y      [oh][ow][c]
 */
static inline void QCC_FN(const QCC_X *x, const QCC_ACC *b, const int32_t *mult, const uint8_t *shift,
                          const uint16_t *rows, const uint16_t *cols, QCC_Y *y, int32_t h, int32_t w, int32_t c,
                          int32_t oh, int32_t ow, int32_t kh, int32_t kw, int32_t sh, int32_t sw,
                          int32_t dh, int32_t dw, int32_t pt, int32_t pl, int32_t lo, int32_t hi)
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
            const int32_t e = ((rows != NULL) && (cols != NULL)) ? ((int32_t)rows[i] + (int32_t)cols[j]) : 0;
            int32_t v0 = 0;
            int32_t v1 = kw;

            while ((v0 < v1) && ((left + (v0 * dw)) < 0)) {
                v0++;
            }
            while ((v0 < v1) && ((left + ((v1 - 1) * dw)) >= w)) {
                v1--;
            }
            for (int32_t k = 0; k < c; k++) {
                QCC_ACC acc = b[e];

                for (int32_t u = u0; u < u1; u++) {
                    int32_t at = ((((top + (u * dh)) * w) + left + (v0 * dw)) * c) + k;

                    for (int32_t v = v0; v < v1; v++) {
                        acc += (QCC_ACC)x[at];
                        at += dw * c;
                    }
                }
                y[k] = (QCC_Y)QCC_RESCALE(acc, (mult != NULL) ? mult[e] : 1, (int32_t)shift[e], lo, hi);
            }
            y += c;
        }
    }
}

#undef QCC_FN
#undef QCC_X
#undef QCC_Y
#undef QCC_ACC
#undef QCC_RESCALE
