/**
 * @file qcc_mve_add.h
 * @brief Addition or subtraction of two tensors with broadcasting, 8 or 4 values at a time.
 *
 * A kernel template: define QCC_FN (function name), QCC_A, QCC_B (int8_t or uint8_t) and
 *   QCC_LANES  8: sums are made in 16 bits, 4: in 32 bits
 * and include it.
 *
 *   y = clamp(floor((a * ma + b * mb + half) / 2^shift))
 * over five nested loops, both operands contiguous in the innermost. The compiler has bounded
 * |a * ma| + |b * mb| + half below the range of the lanes. y may be the same memory as an operand
 * of its shape.
 *
 * @param[in]  a, b    operands
 * @param[out] y       result, [n0][n1][n2][n3][n4]
 * @param[in]  n0..n4  counts, outermost first
 * @param[in]  a0..a3  strides of a, 0 where it repeats
 * @param[in]  b0..b3  strides of b
 */
#include "qcc_mve.h"

#if QCC_MVE && !defined(QCC_MVE_ADD)
#define QCC_MVE_ADD
static inline int16x8_t qcc_mve_load8_uint8_t(const uint8_t *p, mve_pred16_t live)
{
    return vreinterpretq_s16_u16(vldrbq_z_u16(p, live));
}

static inline int16x8_t qcc_mve_load8_int8_t(const int8_t *p, mve_pred16_t live)
{
    return vldrbq_z_s16(p, live);
}

static inline int32x4_t qcc_mve_load4_uint8_t(const uint8_t *p, mve_pred16_t live)
{
    return vreinterpretq_s32_u32(vldrbq_z_u32(p, live));
}

static inline int32x4_t qcc_mve_load4_int8_t(const int8_t *p, mve_pred16_t live)
{
    return vldrbq_z_s32(p, live);
}

static inline int16x8_t qcc_mve_all8_uint8_t(const uint8_t *p)
{
    return vreinterpretq_s16_u16(vldrbq_u16(p));
}

static inline int16x8_t qcc_mve_all8_int8_t(const int8_t *p)
{
    return vldrbq_s16(p);
}

static inline int32x4_t qcc_mve_all4_uint8_t(const uint8_t *p)
{
    return vreinterpretq_s32_u32(vldrbq_u32(p));
}

static inline int32x4_t qcc_mve_all4_int8_t(const int8_t *p)
{
    return vldrbq_s32(p);
}

/** clamp((a * ma + b * mb + half) >> -down), down <= 0. */
static inline int16x8_t qcc_mve_sum8(int16x8_t a, int16x8_t b, int32_t ma, int32_t mb, int16x8_t half, int32_t down,
                                     int16x8_t least, int16x8_t most)
{
    const int16x8_t acc = vmlaq_n_s16(vmlaq_n_s16(half, a, (int16_t)ma), b, (int16_t)mb);

    return vminq_s16(vmaxq_s16(vshlq_r_s16(acc, down), least), most);
}

static inline int32x4_t qcc_mve_sum4(int32x4_t a, int32x4_t b, int32_t ma, int32_t mb, int32x4_t half, int32_t down,
                                     int32x4_t least, int32x4_t most)
{
    const int32x4_t acc = vmlaq_n_s32(vmlaq_n_s32(half, a, ma), b, mb);

    return vminq_s32(vmaxq_s32(vshlq_r_s32(acc, down), least), most);
}
#endif

QCC_MVE_FN void QCC_FN(const QCC_A *a, const QCC_B *b, void *y, int32_t n0, int32_t n1, int32_t n2, int32_t n3,
                       int32_t n4, int32_t a0, int32_t a1, int32_t a2, int32_t a3, int32_t b0, int32_t b1,
                       int32_t b2, int32_t b3, int32_t ma, int32_t mb, int32_t half, int32_t shift, int32_t lo,
                       int32_t hi)
{
    uint8_t *to = (uint8_t *)y;
#if QCC_MVE && (QCC_LANES == 8)
    const int16x8_t halves = vdupq_n_s16((int16_t)half);
    const int16x8_t least = vdupq_n_s16((int16_t)lo);
    const int16x8_t most = vdupq_n_s16((int16_t)hi);
#elif QCC_MVE
    const int32x4_t halves = vdupq_n_s32(half);
    const int32x4_t least = vdupq_n_s32(lo);
    const int32x4_t most = vdupq_n_s32(hi);
#endif

    for (int32_t i0 = 0; i0 < n0; i0++) {
        for (int32_t i1 = 0; i1 < n1; i1++) {
            for (int32_t i2 = 0; i2 < n2; i2++) {
                for (int32_t i3 = 0; i3 < n3; i3++) {
                    const QCC_A *ap = &a[(i0 * a0) + (i1 * a1) + (i2 * a2) + (i3 * a3)];
                    const QCC_B *bp = &b[(i0 * b0) + (i1 * b1) + (i2 * b2) + (i3 * b3)];
#if QCC_MVE
                    for (int32_t left = n4 / QCC_LANES; left > 0; --left) {
#if QCC_LANES == 8
                        const int16x8_t v =
                            qcc_mve_sum8(QCC_MVE_NAME(qcc_mve_all8_, QCC_A)(ap),
                                         QCC_MVE_NAME(qcc_mve_all8_, QCC_B)(bp), ma, mb, halves, -shift, least, most);

                        vstrbq_u16(to, vreinterpretq_u16_s16(v));
#else
                        const int32x4_t v =
                            qcc_mve_sum4(QCC_MVE_NAME(qcc_mve_all4_, QCC_A)(ap),
                                         QCC_MVE_NAME(qcc_mve_all4_, QCC_B)(bp), ma, mb, halves, -shift, least, most);

                        vstrbq_u32(to, vreinterpretq_u32_s32(v));
#endif
                        ap += QCC_LANES;
                        bp += QCC_LANES;
                        to += QCC_LANES;
                    }
                    if ((n4 & (QCC_LANES - 1)) != 0) {
#if QCC_LANES == 8
                        const mve_pred16_t p = vctp16q((uint32_t)(n4 & 7));
                        const int16x8_t v = qcc_mve_sum8(QCC_MVE_NAME(qcc_mve_load8_, QCC_A)(ap, p),
                                                         QCC_MVE_NAME(qcc_mve_load8_, QCC_B)(bp, p), ma, mb, halves,
                                                         -shift, least, most);

                        vstrbq_p_u16(to, vreinterpretq_u16_s16(v), p);
#else
                        const mve_pred16_t p = vctp32q((uint32_t)(n4 & 3));
                        const int32x4_t v = qcc_mve_sum4(QCC_MVE_NAME(qcc_mve_load4_, QCC_A)(ap, p),
                                                         QCC_MVE_NAME(qcc_mve_load4_, QCC_B)(bp, p), ma, mb, halves,
                                                         -shift, least, most);

                        vstrbq_p_u32(to, vreinterpretq_u32_s32(v), p);
#endif
                        to += n4 & (QCC_LANES - 1);
                    }
#else
                    for (int32_t i = 0; i < n4; i++) {
                        const int32_t acc = ((int32_t)ap[i] * ma) + ((int32_t)bp[i] * mb) + half;

                        *to = (uint8_t)qcc_mve_clamp(qcc_mve_asr(acc, shift), lo, hi);
                        to++;
                    }
#endif
                }
            }
        }
    }
}

#undef QCC_FN
#undef QCC_A
#undef QCC_B
#undef QCC_LANES
