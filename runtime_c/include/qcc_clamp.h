/**
 * @file qcc_clamp.h
 * @brief Change of scale and saturation, element by element: the portable kernel.
 *
 * A kernel template: define QCC_FN (function name), QCC_X, QCC_Y (element types), QCC_ACC
 * (accumulator type) and QCC_RESCALE (a function of qcc_arith.h) and include it; it may be
 * included again with other definitions. The macros are undefined at its end.
 *
 *   y[i] = rescale(x[i] + half)
 * y may be the same memory as x if its elements are not wider.
 *
 * @param[in]  x     [n]
 * @param[out] y     [n]
 * @param[in]  half  2^(shift - 1) in the shift forms, else 0
 */
static inline void QCC_FN(const QCC_X *x, QCC_Y *y, int32_t n, QCC_ACC half, int32_t mult, int32_t shift,
                          int32_t lo, int32_t hi)
{
    for (int32_t i = 0; i < n; i++) {
        y[i] = (QCC_Y)QCC_RESCALE((QCC_ACC)x[i] + half, mult, shift, lo, hi);
    }
}

#undef QCC_FN
#undef QCC_X
#undef QCC_Y
#undef QCC_ACC
#undef QCC_RESCALE
