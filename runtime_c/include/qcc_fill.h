/**
 * @file qcc_fill.h
 * @brief Fill an array with one value.
 *
 * A kernel template: define QCC_FN (function name) and QCC_X (element type) and include it; it may
 * be included again with other definitions. The macros are undefined at its end.
 *
 * @param[out] y      [n]
 * @param[in]  n      number of elements
 * @param[in]  value  in the range of QCC_X
 */
static inline void QCC_FN(QCC_X *y, int32_t n, int32_t value)
{
    const QCC_X v = (QCC_X)value;

    for (int32_t i = 0; i < n; i++) {
        y[i] = v;
    }
}

#undef QCC_FN
#undef QCC_X
