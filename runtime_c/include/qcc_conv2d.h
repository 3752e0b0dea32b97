/**
 * @file qcc_conv2d.h
 * @brief Convolution, NHWC, any group count: the portable kernel.
 *
 * A kernel template: define QCC_FN (function name), QCC_X, QCC_W, QCC_Y (element types), QCC_ACC
 * (accumulator and bias type) and QCC_RESCALE (a function of qcc_arith.h) and include it; it may
 * be included again with other definitions. QCC_WEIGHT(w, i) reads a weight; without a definition
 * it is w[i]. The macros are undefined at its end.
 *
 * Per group g and output channel o of it:
 *   y[i][j][o] = rescale(b[o] + sum over u, v, c of x[i*sh + u*dh - pt][j*sw + v*dw - pl][c] * w[o][u][v][c])
 * taps outside the input count as zero. The accumulator cannot overflow: the compiler has bounded
 * |b[o]| + sum |w[o]| * max|x| below the range of QCC_ACC.
 *
 * @param[in]  x      [h][w][groups * cg]
 * @param[in]  wt     [groups * og][kh][kw][cg]
 * @param[in]  b      [groups * og], the rounding half included where the rescale is a shift
 * @param[in]  mult   multipliers, entry o * step, or NULL
 * @param[in]  shift  right shifts, entry o * step
 * @param[out] y      [oh][ow][groups * og]
 */
#ifndef QCC_WEIGHT
#define QCC_WEIGHT(w, i) ((w)[i])
#endif

static inline void QCC_FN(const QCC_X *x, const QCC_W *wt, const QCC_ACC *b, const int32_t *mult,
                          const uint8_t *shift, int32_t step, QCC_Y *y, int32_t h, int32_t w, int32_t cg,
                          int32_t oh, int32_t ow, int32_t og, int32_t groups, int32_t kh, int32_t kw,
                          int32_t sh, int32_t sw, int32_t dh, int32_t dw, int32_t pt, int32_t pl,
                          int32_t lo, int32_t hi)
{
    const int32_t c = groups * cg;

    for (int32_t i = 0; i < oh; i++) {
        const int32_t top = (i * sh) - pt;
        int32_t u0 = 0; /* rows u0..u1 of the window lie inside */
        int32_t u1 = kh;

        while ((u0 < u1) && ((top + (u0 * dh)) < 0)) {
            u0++;
        }
        while ((u0 < u1) && ((top + ((u1 - 1) * dh)) >= h)) {
            u1--;
        }
        for (int32_t j = 0; j < ow; j++) {
            const int32_t left = (j * sw) - pl;
            int32_t first = 0; /* weight of the output channel */
            int32_t v0 = 0;
            int32_t v1 = kw;
            int32_t o = 0;

            while ((v0 < v1) && ((left + (v0 * dw)) < 0)) {
                v0++;
            }
            while ((v0 < v1) && ((left + ((v1 - 1) * dw)) >= w)) {
                v1--;
            }
            for (int32_t g = 0; g < groups; g++) {
                for (int32_t k = 0; k < og; k++) {
                    QCC_ACC acc = b[o];

                    for (int32_t u = u0; u < u1; u++) {
                        for (int32_t v = v0; v < v1; v++) {
                            const QCC_X *xp = &x[((((top + (u * dh)) * w) + left + (v * dw)) * c) + (g * cg)];
                            const int32_t at = first + (((u * kw) + v) * cg);

                            for (int32_t m = 0; m < cg; m++) {
                                acc += (QCC_ACC)xp[m] * (QCC_ACC)QCC_WEIGHT(wt, at + m);
                            }
                        }
                    }
                    *y = (QCC_Y)QCC_RESCALE(acc, (mult != NULL) ? mult[o * step] : 1, (int32_t)shift[o * step], lo, hi);
                    y++;
                    o++;
                    first += kh * kw * cg;
                }
            }
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
