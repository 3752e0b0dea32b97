/**
 * @file qcc_conv_transpose2d.h
 * @brief Transposed convolution, NHWC, any group count: the portable kernel.
 *
 * A kernel template: define QCC_FN (function name), QCC_X, QCC_W, QCC_Y (element types), QCC_ACC
 * (accumulator and bias type) and QCC_RESCALE (a function of qcc_arith.h) and include it; it may
 * be included again with other definitions. QCC_WEIGHT(w, i) reads a weight; without a definition
 * it is w[i]. The macros are undefined at its end.
 *
 * Per group and output channel o of it:
 *   y[i][j][o] = rescale(b[o] + sum of x[a][e][c] * wt[o][u][v][c])
 *                over a*sh + u*dh - pt == i, e*sw + v*dw - pl == j, all c of the group.
 * It gathers: the first tap that meets an input row is found by subtraction, from there on every
 * (nu)-th tap meets the row (na) before the last; likewise for columns. No division.
 *
 * The accumulator cannot overflow: the compiler has bounded |b[o]| + sum |wt[o]| * max|x| below
 * the range of QCC_ACC.
 *
 * @param[in]  x      [h][w][groups * cg]
 * @param[in]  wt     [groups * og][kh][kw][cg]
 * @param[in]  b      [groups * og], the rounding half included where the rescale is a shift
 * @param[in]  mult   multipliers, entry o * step, or NULL
 * @param[in]  shift  right shifts, entry o * step
 * @param[out] y      [oh][ow][groups * og]
 * @param[in]  nu, nv sh / gcd(sh, dh) and sw / gcd(sw, dw)
 * @param[in]  na, ne dh / gcd(sh, dh) and dw / gcd(sw, dw)
 */
#ifndef QCC_WEIGHT
#define QCC_WEIGHT(w, i) ((w)[i])
#endif

static inline void QCC_FN(const QCC_X *x, const QCC_W *wt, const QCC_ACC *b, const int32_t *mult,
                          const uint8_t *shift, int32_t step, QCC_Y *y, int32_t h, int32_t w, int32_t cg,
                          int32_t oh, int32_t ow, int32_t og, int32_t groups, int32_t kh, int32_t kw,
                          int32_t sh, int32_t sw, int32_t dh, int32_t dw, int32_t pt, int32_t pl,
                          int32_t nu, int32_t nv, int32_t na, int32_t ne, int32_t lo, int32_t hi)
{
    const int32_t c = groups * cg;
    int32_t row = 0; /* i + pt = row * sh + row_rest */
    int32_t row_rest = pt;

    while (row_rest >= sh) {
        row_rest -= sh;
        row++;
    }
    for (int32_t i = 0; i < oh; i++) {
        int32_t u0 = 0; /* the first tap that meets an input row, and that row, a0 */
        int32_t a0 = row;
        int32_t rest = row_rest;
        int32_t col = 0; /* j + pl = col * sw + col_rest */
        int32_t col_rest = pl;

        while ((u0 < kh) && ((rest != 0) || (a0 >= h))) {
            u0++;
            rest -= dh;
            while (rest < 0) {
                rest += sh;
                a0--;
            }
        }
        while (col_rest >= sw) {
            col_rest -= sw;
            col++;
        }
        for (int32_t j = 0; j < ow; j++) {
            int32_t first = 0; /* weight of the output channel */
            int32_t o = 0;
            int32_t v0 = 0;
            int32_t e0 = col;

            rest = col_rest;
            while ((v0 < kw) && ((rest != 0) || (e0 >= w))) {
                v0++;
                rest -= dw;
                while (rest < 0) {
                    rest += sw;
                    e0--;
                }
            }
            for (int32_t g = 0; g < groups; g++) {
                for (int32_t k = 0; k < og; k++) {
                    QCC_ACC acc = b[o];
                    int32_t a = a0;

                    for (int32_t u = u0; (u < kh) && (a >= 0); u += nu) {
                        int32_t e = e0;

                        for (int32_t v = v0; (v < kw) && (e >= 0); v += nv) {
                            const QCC_X *xp = &x[(((a * w) + e) * c) + (g * cg)];
                            const int32_t at = first + (((u * kw) + v) * cg);

                            for (int32_t m = 0; m < cg; m++) {
                                acc += (QCC_ACC)xp[m] * (QCC_ACC)QCC_WEIGHT(wt, at + m);
                            }
                            e -= ne;
                        }
                        a -= na;
                    }
                    *y = (QCC_Y)QCC_RESCALE(acc, (mult != NULL) ? mult[o * step] : 1, (int32_t)shift[o * step], lo, hi);
                    y++;
                    o++;
                    first += kh * kw * cg;
                }
            }
            col_rest++;
            if (col_rest == sw) {
                col_rest = 0;
                col++;
            }
        }
        row_rest++;
        if (row_rest == sh) {
            row_rest = 0;
            row++;
        }
    }
}

#undef QCC_FN
#undef QCC_X
#undef QCC_W
#undef QCC_WEIGHT
#undef QCC_Y
#undef QCC_ACC
#undef QCC_RESCALE
