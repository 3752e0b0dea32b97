/**
 * @file qcc_max_pool2d.h
 * @brief Largest value of each window, NHWC: the portable kernel.
 *
 * A kernel template: define QCC_FN (function name) and QCC_X (element type) and include it; it
 * may be included again with other definitions. The macros are undefined at its end.
 *
 *   y[i][j][k] = max over u, v of x[i*sh + u*dh - pt][j*sw + v*dw - pl][k]
 * taps outside the input are skipped; every window has one inside.
 *
 * @param[in]  x  [h][w][c]
 * @param[out] y  [oh][ow][c]
 */
static inline void QCC_FN(const QCC_X *x, QCC_X *y, int32_t h, int32_t w, int32_t c, int32_t oh, int32_t ow,
                          int32_t kh, int32_t kw, int32_t sh, int32_t sw, int32_t dh, int32_t dw,
                          int32_t pt, int32_t pl)
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
            const QCC_X *first;

            while ((v0 < v1) && ((left + (v0 * dw)) < 0)) {
                v0++;
            }
            while ((v0 < v1) && ((left + ((v1 - 1) * dw)) >= w)) {
                v1--;
            }
            first = &x[(((top + (u0 * dh)) * w) + left + (v0 * dw)) * c];
            for (int32_t k = 0; k < c; k++) {
                QCC_X best = first[k];

                for (int32_t u = u0; u < u1; u++) {
                    int32_t at = ((((top + (u * dh)) * w) + left + (v0 * dw)) * c) + k;

                    for (int32_t v = v0; v < v1; v++) {
                        if (x[at] > best) {
                            best = x[at];
                        }
                        at += dw * c;
                    }
                }
                y[k] = best;
            }
            y += c;
        }
    }
}

#undef QCC_FN
#undef QCC_X
