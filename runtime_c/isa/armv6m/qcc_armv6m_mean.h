/**
 * @file qcc_armv6m_mean.h
 * @brief Mean over all but the last axis: qcc_reduce_mean.h with fewer instructions a value on ARMv6-M.
 *
 * A kernel template: define QCC_FN (function name), QCC_X, QCC_Y (element types), QCC_ACC
 * (accumulator type) and QCC_RESCALE (a function of qcc_arith.h) and include it; it may be
 * included again with other definitions. The macros are undefined at its end.
 *
 *   y[k] = rescale(half + sum over i of x[i][k])
 * The multiplier includes 1/n. The compiler has bounded the sum below the range of QCC_ACC.
 *
 * @param[in]  x     [n][c]
 * @param[in]  half  the rounding half where the rescale is a shift, else 0
 * @param[out] y     [c]
 */
#include "qcc_armv6m.h"

static inline void QCC_FN(const QCC_X *x, QCC_ACC half, int32_t mult, int32_t shift, QCC_Y *y, int32_t n,
                                int32_t c, int32_t lo, int32_t hi)
{
    for (int32_t k = 0; k < c; k++) {
        const QCC_X *at = &x[k];
        QCC_ACC acc = half;
        int32_t left = n;

        while (left >= 4) { /* loads with an offset in a register */
            acc += (QCC_ACC)at[0] + (QCC_ACC)at[c] + (QCC_ACC)at[2 * c] + (QCC_ACC)at[3 * c];
            at += 4 * c;
            left -= 4;
        }
        for (; left > 0; left--) {
            acc += (QCC_ACC)*at;
            at += c;
        }
        y[k] = (QCC_Y)QCC_RESCALE(acc, mult, shift, lo, hi);
    }
}

#undef QCC_FN
#undef QCC_X
#undef QCC_Y
#undef QCC_ACC
#undef QCC_RESCALE
