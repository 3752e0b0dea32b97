/**
 * @file qcc_dense.h
 * @brief Fully connected layer over any number of rows: the portable kernel.
 *
 * A kernel template: define QCC_FN (function name), QCC_X, QCC_W, QCC_Y (element types), QCC_ACC
 * (accumulator and bias type) and QCC_RESCALE (a function of qcc_arith.h) and include it; it may
 * be included again with other definitions. QCC_WEIGHT(w, i) reads a weight; without a definition
 * it is w[i]. The macros are undefined at its end.
 *
 *   y[r][o] = rescale(b[o] + sum over k of x[r][k] * wt[o][k])
 *
 * The accumulator cannot overflow: the compiler has bounded |b[o]| + sum |wt[o]| * max|x| below
 * the range of QCC_ACC.
 *
 * @param[in]  x      [rows][n]
 * @param[in]  wt     [m][n]
 * @param[in]  b      [m], the rounding half included where the rescale is a shift
 * @param[in]  mult   multipliers, entry o * step, or NULL
 * @param[in]  shift  right shifts, entry o * step
 * @param[out] y      [rows][m]
 */
#ifndef QCC_WEIGHT
#define QCC_WEIGHT(w, i) ((w)[i])
#endif

static inline void QCC_FN(const QCC_X *x, const QCC_W *wt, const QCC_ACC *b, const int32_t *mult,
                          const uint8_t *shift, int32_t step, QCC_Y *y, int32_t rows, int32_t n, int32_t m,
                          int32_t lo, int32_t hi)
{
    for (int32_t r = 0; r < rows; r++) {
        int32_t first = 0; /* weight of the output */

        for (int32_t o = 0; o < m; o++) {
            QCC_ACC acc = b[o];

            for (int32_t k = 0; k < n; k++) {
                acc += (QCC_ACC)x[k] * (QCC_ACC)QCC_WEIGHT(wt, first + k);
            }
            y[o] = (QCC_Y)QCC_RESCALE(acc, (mult != NULL) ? mult[o * step] : 1, (int32_t)shift[o * step], lo, hi);
            first += n;
        }
        x += n;
        y += m;
    }
}

#undef QCC_FN
#undef QCC_X
#undef QCC_W
#undef QCC_WEIGHT
#undef QCC_Y
#undef QCC_ACC
#undef QCC_RESCALE
