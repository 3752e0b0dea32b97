/**
 * @file qcc_resize_nearest.h
 * @brief Nearest-neighbour resize, NHWC, through index tables.
 *
 * A kernel template: define QCC_FN (function name) and QCC_X (element type) and include it; it may
 * be included again with other definitions. The macros are undefined at its end.
 *
 *   y[b][i][j][k] = x[b][rows[i]][cols[j]][k]
 *
 * @param[in]  x     [n][h][w][c]
 * @param[in]  rows  [oh], each below h
 * @param[in]  cols  [ow], each below w
 * @param[out] y     [n][oh][ow][c]
 */
static inline void QCC_FN(const QCC_X *x, const uint16_t *rows, const uint16_t *cols, QCC_X *y, int32_t n,
                          int32_t h, int32_t w, int32_t oh, int32_t ow, int32_t c)
{
    for (int32_t b = 0; b < n; b++) {
        for (int32_t i = 0; i < oh; i++) {
            const QCC_X *row = &x[((b * h) + (int32_t)rows[i]) * w * c];

            for (int32_t j = 0; j < ow; j++) {
                const QCC_X *pixel = &row[(int32_t)cols[j] * c];

                for (int32_t k = 0; k < c; k++) {
                    *y = pixel[k];
                    y++;
                }
            }
        }
    }
}

#undef QCC_FN
#undef QCC_X
