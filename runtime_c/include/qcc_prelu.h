/**
 * @file qcc_prelu.h
 * @brief Rectifier with a slope of its own per channel below zero: the portable kernel.
 *
 * A kernel template: define QCC_FN (function name), QCC_X, QCC_Y (element types), QCC_ACC
 * (accumulator type) and QCC_RESCALE (a shift form of qcc_arith.h) and include it; it may be
 * included again with other definitions. The macros are undefined at its end.
 *
 *   y = rescale(x * (x >= 0 ? positive : m) + half)
 * over five nested loops. The compiler has bounded |x| * max(positive, |m|) + half below the range
 * of QCC_ACC. y may be the same memory as x if its elements are not wider.
 *
 * @param[in]  x         input
 * @param[in]  m         multipliers of negative x
 * @param[out] y         result, [n0][n1][n2][n3][n4]
 * @param[in]  n0..n4    counts, outermost first
 * @param[in]  x0..x4    strides of x in elements
 * @param[in]  m0..m4    strides of m, 0 where it repeats
 * @param[in]  positive  multiplier of x >= 0
 * @param[in]  half      2^(shift - 1), or 0 for shift 0
 */
static inline void QCC_FN(const QCC_X *x, const int32_t *m, QCC_Y *y, int32_t n0, int32_t n1, int32_t n2,
                          int32_t n3, int32_t n4, int32_t x0, int32_t x1, int32_t x2, int32_t x3,
                          int32_t x4, int32_t m0, int32_t m1, int32_t m2, int32_t m3, int32_t m4,
                          int32_t positive, QCC_ACC half, int32_t shift, int32_t lo, int32_t hi)
{
    for (int32_t i0 = 0; i0 < n0; i0++) {
        for (int32_t i1 = 0; i1 < n1; i1++) {
            for (int32_t i2 = 0; i2 < n2; i2++) {
                for (int32_t i3 = 0; i3 < n3; i3++) {
                    const QCC_X *xp = &x[(i0 * x0) + (i1 * x1) + (i2 * x2) + (i3 * x3)];
                    const int32_t *mp = &m[(i0 * m0) + (i1 * m1) + (i2 * m2) + (i3 * m3)];

                    for (int32_t i4 = 0; i4 < n4; i4++) {
                        const int32_t v = (int32_t)xp[i4 * x4];
                        const int32_t k = (v >= 0) ? positive : mp[i4 * m4];
                        const QCC_ACC acc = ((QCC_ACC)v * (QCC_ACC)k) + half;

                        *y = (QCC_Y)QCC_RESCALE(acc, 1, shift, lo, hi);
                        y++;
                    }
                }
            }
        }
    }
}

#undef QCC_FN
#undef QCC_X
#undef QCC_Y
#undef QCC_ACC
#undef QCC_RESCALE
