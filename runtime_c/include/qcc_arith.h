/**
 * @file qcc_arith.h
 * @brief Integer arithmetic of the generated code: the twin of qcc/arith.py.
 *
 * Everything is exact; rounding is half up: add half, shift right arithmetically.
 * The compiler has proved that no sum or product here leaves its type.
 */
#ifndef QCC_ARITH_H
#define QCC_ARITH_H

#include <stddef.h>
#include <stdint.h>

/** floor(v / 2^s) for s in [0, 31]; no implementation-defined shift, yet one instruction. */
static inline int32_t qcc_asr32(int32_t v, int32_t s)
{
    return (v >= 0) ? (v >> s) : ~(~v >> s);
}

/** floor(v / 2^s) for s in [0, 63]. */
static inline int64_t qcc_asr64(int64_t v, int32_t s)
{
    return (v >= 0) ? (v >> s) : ~(~v >> s);
}

/** @p v saturated to [lo, hi]. */
static inline int32_t qcc_clamp32(int32_t v, int32_t lo, int32_t hi)
{
    return (v < lo) ? lo : ((v > hi) ? hi : v);
}

/** @p v saturated to [lo, hi]. */
static inline int32_t qcc_clamp64(int64_t v, int32_t lo, int32_t hi)
{
    return (v < lo) ? lo : ((v > hi) ? hi : (int32_t)v);
}

/*
 * Rescaling of an accumulator, saturated to [lo, hi]. A kernel is built with one of these as
 * QCC_RESCALE. In the shift forms the rounding half is part of acc already (of the bias).
 */

/** clamp(floor(acc / 2^shift)); mult is not used. */
static inline int32_t qcc_rescale_shift32(int32_t acc, int32_t mult, int32_t shift, int32_t lo, int32_t hi)
{
    (void)mult;
    return qcc_clamp32(qcc_asr32(acc, shift), lo, hi);
}

/** clamp(floor(acc / 2^shift)); mult is not used. */
static inline int32_t qcc_rescale_shift64(int64_t acc, int32_t mult, int32_t shift, int32_t lo, int32_t hi)
{
    (void)mult;
    return qcc_clamp64(qcc_asr64(acc, shift), lo, hi);
}

/** clamp(round(acc * mult / 2^shift)), |acc * mult| + half < 2^31, shift in [0, 31]. */
static inline int32_t qcc_rescale_mult32(int32_t acc, int32_t mult, int32_t shift, int32_t lo, int32_t hi)
{
    const int32_t half = (int32_t)(((uint32_t)1 << shift) >> 1);

    return qcc_clamp32(qcc_asr32((acc * mult) + half, shift), lo, hi);
}

/** clamp(round(acc * mult / 2^shift)), |acc * mult| + half < 2^63, shift in [0, 62]. */
static inline int32_t qcc_rescale_mult64(int64_t acc, int32_t mult, int32_t shift, int32_t lo, int32_t hi)
{
    const int64_t half = (int64_t)(((uint64_t)1 << shift) >> 1);

    return qcc_clamp64(qcc_asr64((acc * mult) + half, shift), lo, hi);
}

#endif /* QCC_ARITH_H */
