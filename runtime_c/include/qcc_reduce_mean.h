/**
 * @file qcc_reduce_mean.h
 * @brief Mean over any axes: the portable kernel.
 *
 * A kernel template: define QCC_FN (function name), QCC_X, QCC_Y (element types), QCC_ACC
 * (accumulator type) and QCC_RESCALE (a function of qcc_arith.h) and include it; it may be
 * included again with other definitions. The macros are undefined at its end.
 *
 * The axes come as three loops over those that stay (k0, k1, k2 turns, steps of s0, s1, s2
 * elements) and three over those that are summed (r0, r1, r2 turns, steps of t0, t1, t2):
 *   y[a][b][c] = rescale(half + sum over d, e, f of x[a*s0 + b*s1 + c*s2 + d*t0 + e*t1 + f*t2])
 * The multiplier includes 1/count. The compiler has bounded the sum below the range of QCC_ACC.
 *
 * @param[in]  x     all r0*r1*r2*k0*k1*k2 values
 * @param[in]  half  the rounding half where the rescale is a shift, else 0
 * @param[out] y     [k0][k1][k2]
 */
static inline void QCC_FN(const QCC_X *x, QCC_ACC half, int32_t mult, int32_t shift, QCC_Y *y,
                          int32_t k0, int32_t k1, int32_t k2, int32_t s0, int32_t s1, int32_t s2,
                          int32_t r0, int32_t r1, int32_t r2, int32_t t0, int32_t t1, int32_t t2,
                          int32_t lo, int32_t hi)
{
    for (int32_t a = 0; a < k0; a++) {
        for (int32_t b = 0; b < k1; b++) {
            for (int32_t c = 0; c < k2; c++) {
                const QCC_X *from = &x[(a * s0) + (b * s1) + (c * s2)];
                QCC_ACC acc = half;

                for (int32_t d = 0; d < r0; d++) {
                    for (int32_t e = 0; e < r1; e++) {
                        for (int32_t f = 0; f < r2; f++) {
                            acc += (QCC_ACC)from[(d * t0) + (e * t1) + (f * t2)];
                        }
                    }
                }
                *y = (QCC_Y)QCC_RESCALE(acc, mult, shift, lo, hi);
                y++;
            }
        }
    }
}

#undef QCC_FN
#undef QCC_X
#undef QCC_Y
#undef QCC_ACC
#undef QCC_RESCALE
