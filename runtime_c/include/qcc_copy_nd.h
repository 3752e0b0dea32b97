/**
 * @file qcc_copy_nd.h
 * @brief Strided copy over six axes: transpose, slice, concat, pad.
 *
 * A kernel template: define QCC_FN (function name) and QCC_X (element type) and include it; it may
 * be included again with other definitions. The macros are undefined at its end.
 *
 *   y[yo + sum i_k * d_k] = x[xo + sum i_k * s_k]   for all 0 <= i_k < n_k
 *
 * Axis 5 is the innermost loop; unused axes come first with n_k = 1. Strides count elements and may
 * be negative. The compiler has proved that every index lies in its array; x and y do not overlap.
 *
 * @param[in]  x   source
 * @param[in]  xo  first element read
 * @param[out] y   destination
 * @param[in]  yo  first element written
 */
static inline void QCC_FN(const QCC_X *x, int32_t xo, QCC_X *y, int32_t yo,
                          int32_t n0, int32_t n1, int32_t n2, int32_t n3, int32_t n4, int32_t n5,
                          int32_t s0, int32_t s1, int32_t s2, int32_t s3, int32_t s4, int32_t s5,
                          int32_t d0, int32_t d1, int32_t d2, int32_t d3, int32_t d4, int32_t d5)
{
    for (int32_t i0 = 0; i0 < n0; i0++) {
        for (int32_t i1 = 0; i1 < n1; i1++) {
            for (int32_t i2 = 0; i2 < n2; i2++) {
                const int32_t x2 = xo + (i0 * s0) + (i1 * s1) + (i2 * s2);
                const int32_t y2 = yo + (i0 * d0) + (i1 * d1) + (i2 * d2);

                for (int32_t i3 = 0; i3 < n3; i3++) {
                    for (int32_t i4 = 0; i4 < n4; i4++) {
                        const int32_t x4 = x2 + (i3 * s3) + (i4 * s4);
                        const int32_t y4 = y2 + (i3 * d3) + (i4 * d4);

                        for (int32_t i5 = 0; i5 < n5; i5++) {
                            y[y4 + (i5 * d5)] = x[x4 + (i5 * s5)];
                        }
                    }
                }
            }
        }
    }
}

#undef QCC_FN
#undef QCC_X
