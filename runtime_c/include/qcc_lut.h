/**
 * @file qcc_lut.h
 * @brief A function of one value of at most 8 bits, by a table: the portable kernel.
 *
 * A kernel template: define QCC_FN (function name), QCC_X and QCC_Y (element types) and include it;
 * it may be included again with other definitions. The macros are undefined at its end.
 *
 *   y[i] = table[x[i] mod (mask + 1)]
 * The index is the value's low bits: of a signed type, 0, 1, ..., then the negatives from the
 * lowest up (-128 is entry 128 of 256, -1 is entry 255). y may be the same memory as x if its
 * elements are not wider.
 *
 * @param[in]  x      [n]
 * @param[in]  table  [mask + 1]
 * @param[out] y      [n]
 * @param[in]  mask   2^bits - 1
 */
static inline void QCC_FN(const QCC_X *x, const QCC_Y *table, QCC_Y *y, int32_t n, uint32_t mask)
{
    for (int32_t i = 0; i < n; i++) {
        y[i] = table[(uint32_t)(uint8_t)x[i] & mask];
    }
}

#undef QCC_FN
#undef QCC_X
#undef QCC_Y
