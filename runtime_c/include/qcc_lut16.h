/**
 * @file qcc_lut16.h
 * @brief A function of one 16-bit value, by a table and linear interpolation: the portable kernel.
 *
 * A kernel template: define QCC_FN (function name), QCC_X and QCC_Y (element types) and include it;
 * it may be included again with other definitions. The macros are undefined at its end.
 *
 * Entry k of the table is the function at x = 128 * k - offset, times 2^(shift - 7):
 *   y = clamp(round((t[k] * (128 - r) + t[k + 1] * r) / 2^shift)), k = (x + offset) / 128, r the rest
 * No sum overflows: |t| <= 2^23, so the weighted mean times 128 is at most 2^30, and a difference
 * times r below 2^31. y may be the same memory as x if its elements are not wider.
 *
 * @param[in]  x       [n]
 * @param[in]  table   [513]
 * @param[out] y       [n]
 * @param[in]  offset  32768 for a signed x, else 0
 * @param[in]  shift   7 to 30
 */
static inline void QCC_FN(const QCC_X *x, const int32_t *table, QCC_Y *y, int32_t n, int32_t offset,
                          int32_t shift, int32_t lo, int32_t hi)
{
    const int32_t half = (int32_t)(((uint32_t)1 << shift) >> 1);

    for (int32_t i = 0; i < n; i++) {
        const int32_t v = (int32_t)x[i] + offset;
        const int32_t *t = &table[v >> 7];
        const int32_t mean = (t[0] * 128) + ((t[1] - t[0]) * (v & 127));

        y[i] = (QCC_Y)qcc_clamp32(qcc_asr32(mean + half, shift), lo, hi);
    }
}

#undef QCC_FN
#undef QCC_X
#undef QCC_Y
