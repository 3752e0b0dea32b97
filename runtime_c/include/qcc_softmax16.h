/**
 * @file qcc_softmax16.h
 * @brief Softmax along one axis, 16-bit values: the portable kernel.
 *
 * A kernel template: define QCC_FN (function name), QCC_X and QCC_Y (element types) and include it;
 * it may be included again with other definitions. The macros are undefined at its end.
 *
 *   e = floor(high[d / 256] * low[d mod 256] / 2^30), d = max(x) - x
 *   y = round((2^bits - 1) * e / sum(e)), half up
 * The compiler has bounded sum(e) below 2^62. With 2^bits * e = q * sum + r, q and r
 * found bit by bit, the result is q + (r - e) / sum, rounded: -1, 0 or 1 is added to q.
 * y must not overlap x.
 *
 * @param[in]  x      [outer][n][inner]
 * @param[in]  high   round(2^30 * exp(-256 * d * scale of x)), d = 0, ..., 255
 * @param[in]  low    round(2^30 * exp(-d * scale of x)), d = 0, ..., 255
 * @param[out] y      [outer][n][inner], unsigned
 * @param[in]  bits   of y
 */
static inline void QCC_FN(const QCC_X *x, const uint32_t *high, const uint32_t *low, QCC_Y *y,
                          int32_t outer, int32_t n, int32_t inner, int32_t bits)
{
    for (int32_t o = 0; o < outer; o++) {
        for (int32_t i = 0; i < inner; i++) {
            const QCC_X *xp = &x[(o * n * inner) + i];
            QCC_Y *yp = &y[(o * n * inner) + i];
            int32_t top = (int32_t)xp[0];
            uint64_t sum = 0;

            for (int32_t k = 1; k < n; k++) {
                const int32_t v = (int32_t)xp[k * inner];

                top = (v > top) ? v : top;
            }
            for (int32_t k = 0; k < n; k++) {
                const int32_t d = top - (int32_t)xp[k * inner];

                sum += ((uint64_t)high[d >> 8] * (uint64_t)low[d & 255]) >> 30;
            }
            for (int32_t k = 0; k < n; k++) {
                const int32_t d = top - (int32_t)xp[k * inner];
                const uint64_t e = ((uint64_t)high[d >> 8] * (uint64_t)low[d & 255]) >> 30;
                uint32_t q = 0;
                uint64_t r = e;

                if (r >= sum) {
                    r -= sum;
                    q = 1;
                }
                for (int32_t b = 0; b < bits; b++) {
                    r <<= 1;
                    q <<= 1;
                    if (r >= sum) {
                        r -= sum;
                        q |= 1u;
                    }
                }
                if ((r + r) >= (sum + e + e)) {
                    q++;
                } else if ((r + r + sum) < (e + e)) {
                    q--;
                } else {
                    /* the quotient stands */
                }
                yp[k * inner] = (QCC_Y)q;
            }
        }
    }
}

#undef QCC_FN
#undef QCC_X
#undef QCC_Y
