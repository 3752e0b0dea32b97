/**
 * @file qcc_add.h
 * @brief Addition or subtraction of two tensors with broadcasting: the portable kernel.
 *
 * A kernel template: define QCC_FN (function name), QCC_A, QCC_B, QCC_Y (element types), QCC_ACC
 * (accumulator type) and QCC_RESCALE (a shift form of qcc_arith.h) and include it; it may be
 * included again with other definitions. The macros are undefined at its end.
 *
 *   y = rescale(a * ma + b * mb + half)
 * over five nested loops. The compiler has bounded |a * ma| + |b * mb| + half below the range of
 * QCC_ACC. y may be the same memory as an operand of its shape whose elements are not narrower.
 *
 * @param[in]  a, b    operands
 * @param[out] y       result, [n0][n1][n2][n3][n4]
 * @param[in]  n0..n4  counts, outermost first
 * @param[in]  a0..a4  strides of a in elements, 0 where a repeats
 * @param[in]  b0..b4  strides of b
 * @param[in]  ma, mb  multipliers, negative where an operand is subtracted
 * @param[in]  half    2^(shift - 1), or 0 for shift 0
 */
static inline void QCC_FN(const QCC_A *a, const QCC_B *b, QCC_Y *y, int32_t n0, int32_t n1, int32_t n2,
                          int32_t n3, int32_t n4, int32_t a0, int32_t a1, int32_t a2, int32_t a3,
                          int32_t a4, int32_t b0, int32_t b1, int32_t b2, int32_t b3, int32_t b4,
                          int32_t ma, int32_t mb, QCC_ACC half, int32_t shift, int32_t lo, int32_t hi)
{
    for (int32_t i0 = 0; i0 < n0; i0++) {
        for (int32_t i1 = 0; i1 < n1; i1++) {
            for (int32_t i2 = 0; i2 < n2; i2++) {
                for (int32_t i3 = 0; i3 < n3; i3++) {
                    const QCC_A *ap = &a[(i0 * a0) + (i1 * a1) + (i2 * a2) + (i3 * a3)];
                    const QCC_B *bp = &b[(i0 * b0) + (i1 * b1) + (i2 * b2) + (i3 * b3)];

                    for (int32_t i4 = 0; i4 < n4; i4++) {
                        const QCC_ACC acc = ((QCC_ACC)ap[i4 * a4] * (QCC_ACC)ma) +
                                            ((QCC_ACC)bp[i4 * b4] * (QCC_ACC)mb) + half;

                        *y = (QCC_Y)QCC_RESCALE(acc, 1, shift, lo, hi);
                        y++;
                    }
                }
            }
        }
    }
}

#undef QCC_FN
#undef QCC_A
#undef QCC_B
#undef QCC_Y
#undef QCC_ACC
#undef QCC_RESCALE
