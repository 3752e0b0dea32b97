/**
 * @file qcc_mve.h
 * @brief What the kernels for the M-profile Vector Extension (Helium) share.
 *
 * Every kernel exists in three forms that give the same bits: inline assembly (QCC_MVE_ASM), the
 * intrinsics of arm_mve.h (QCC_MVE, with QCC_NO_ASM, without optimisation, or where the compiler is
 * not GNU-like), and plain C where there is no Helium at all.
 *
 * A signed dot product needs both operands signed, so unsigned activations are read as x - 128:
 * their bits with the highest one flipped (*flip* = 128; 0 for signed ones). The compiler has put
 * 128 * sum(weights) in the bias, and a tap in the padding reads 0 ^ flip.
 */
#ifndef QCC_MVE_H
#define QCC_MVE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && defined(__ORDER_BIG_ENDIAN__)
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#error "the packed weights are little-endian"
#endif
#endif

#if defined(__ARM_FEATURE_MVE)
#include <arm_mve.h>
#define QCC_MVE 1
#else
#define QCC_MVE 0
#endif

#if QCC_MVE && defined(__GNUC__) && defined(__OPTIMIZE__) && !defined(QCC_NO_ASM)
#define QCC_MVE_ASM 1
#else
#define QCC_MVE_ASM 0
#endif

/* One copy of a kernel serves all layers that call it. */
#if defined(__GNUC__)
#define QCC_MVE_FN static __attribute__((noinline, unused))
#else
#define QCC_MVE_FN static
#endif

/* Names and texts with the value of a macro in them. */
#define QCC_MVE_PASTE(a, b) a##b
#define QCC_MVE_NAME(a, b) QCC_MVE_PASTE(a, b)
#define QCC_MVE_TEXT(a) #a
#define QCC_MVE_STRING(a) QCC_MVE_TEXT(a)

/* Repetition in assembly: the compiler counts its lines to place constants within reach. */
#define QCC_MVE_TIMES_1(text) text
#define QCC_MVE_TIMES_2(text) QCC_MVE_TIMES_1(text) text
#define QCC_MVE_TIMES_3(text) QCC_MVE_TIMES_2(text) text
#define QCC_MVE_TIMES_4(text) QCC_MVE_TIMES_3(text) text
#define QCC_MVE_TIMES_5(text) QCC_MVE_TIMES_4(text) text
#define QCC_MVE_TIMES_6(text) QCC_MVE_TIMES_5(text) text
#define QCC_MVE_TIMES_7(text) QCC_MVE_TIMES_6(text) text
#define QCC_MVE_TIMES_8(text) QCC_MVE_TIMES_7(text) text
#define QCC_MVE_TIMES_9(text) QCC_MVE_TIMES_8(text) text
#define QCC_MVE_TIMES_10(text) QCC_MVE_TIMES_9(text) text
#define QCC_MVE_TIMES_11(text) QCC_MVE_TIMES_10(text) text
#define QCC_MVE_TIMES_12(text) QCC_MVE_TIMES_11(text) text

/** floor(v / 2^s) for s in [0, 31]. */
static inline int32_t qcc_mve_asr(int32_t v, int32_t s)
{
    return (v >= 0) ? (v >> s) : ~(~v >> s);
}

/** @p v saturated to [lo, hi]. */
static inline int32_t qcc_mve_clamp(int32_t v, int32_t lo, int32_t hi)
{
    return (v < lo) ? lo : ((v > hi) ? hi : v);
}

/** to[i] = from[i] ^ flip for n > 0 bytes. */
static inline void qcc_mve_copy(uint8_t *to, const uint8_t *from, int32_t n, int32_t flip)
{
#if QCC_MVE_ASM
    const uint8x16_t f = vdupq_n_u8((uint8_t)flip);

    __asm__ volatile("dlstp.8 lr, %[n]\n"
                     "1:\n\t"
                     "vldrb.8 q0, [%[from]], #16\n\t"
                     "veor q0, q0, %q[f]\n\t"
                     "vstrb.8 q0, [%[to]], #16\n\t"
                     "letp lr, 1b\n"
                     : [to] "+r"(to), [from] "+r"(from)
                     : [n] "r"(n), [f] "w"(f)
                     : "q0", "lr", "memory");
#elif QCC_MVE
    const uint8x16_t f = vdupq_n_u8((uint8_t)flip);

    for (; n > 0; n -= 16) {
        const mve_pred16_t p = vctp8q((uint32_t)n);

        vst1q_p_u8(to, veorq_u8(vld1q_z_u8(from, p), f), p);
        to += 16;
        from += 16;
    }
#else
    for (int32_t i = 0; i < n; i++) {
        to[i] = (uint8_t)(from[i] ^ (uint8_t)flip);
    }
#endif
}

/** @p count pieces of @p n > 0 bytes: to[i * tstep + k] = from[i * fstep + k] ^ flip. */
QCC_MVE_FN void qcc_mve_copies(uint8_t *to, int32_t tstep, const uint8_t *from, int32_t fstep, int32_t n,
                               int32_t count, int32_t flip)
{
    if ((n == tstep) && (n == fstep)) {
        if (count > 0) {
            qcc_mve_copy(to, from, n * count, flip);
        }
        return;
    }
#if QCC_MVE
    if (n <= 16) {
        const uint8x16_t f = vdupq_n_u8((uint8_t)flip);
        const mve_pred16_t p = vctp8q((uint32_t)n);

        for (; count > 0; --count) {
            vst1q_p_u8(to, veorq_u8(vld1q_z_u8(from, p), f), p);
            to += tstep;
            from += fstep;
        }
        return;
    }
#endif
    for (; count > 0; --count) {
        qcc_mve_copy(to, from, n, flip);
        to += tstep;
        from += fstep;
    }
}

/** to[i] = value for n > 0 bytes. */
static inline void qcc_mve_set(uint8_t *to, int32_t n, int32_t value)
{
#if QCC_MVE_ASM
    const uint8x16_t v = vdupq_n_u8((uint8_t)value);

    __asm__ volatile("dlstp.8 lr, %[n]\n"
                     "1:\n\t"
                     "vstrb.8 %q[v], [%[to]], #16\n\t"
                     "letp lr, 1b\n"
                     : [to] "+r"(to)
                     : [n] "r"(n), [v] "w"(v)
                     : "lr", "memory");
#elif QCC_MVE
    for (; n > 0; n -= 16) {
        vst1q_p_u8(to, vdupq_n_u8((uint8_t)value), vctp8q((uint32_t)n));
        to += 16;
    }
#else
    memset(to, value, (size_t)n);
#endif
}

/** @p count pieces of @p n > 0 bytes: to[i * tstep + k] = value. */
QCC_MVE_FN void qcc_mve_fill(uint8_t *to, int32_t tstep, int32_t n, int32_t count, int32_t value)
{
    for (; count > 0; --count) {
        qcc_mve_set(to, n, value);
        to += tstep;
    }
}

/** acc + the dot product of 16 signed bytes. */
static inline int32_t qcc_mve_dot16(int32_t acc, const uint8_t *x, const int8_t *w)
{
#if QCC_MVE
    return vmladavaq_s8(acc, vreinterpretq_s8_u8(vld1q_u8(x)), vld1q_s8(w));
#else
    for (int32_t i = 0; i < 16; i++) {
        acc += ((int32_t)x[i] - (((x[i] & 0x80u) != 0u) ? 256 : 0)) * (int32_t)w[i];
    }
    return acc;
#endif
}

/**
 * One accumulator to one output, clamped to [lo, hi]: floor(acc / 2^-shift), or with a multiplier
 * round(acc * mult / 2^(31 - shift)), whose shift is below 0. The vectors do the same four at a
 * time: VSHL; VQDMULH (the exact floor of acc * mult / 2^31) and the rounding VRSHL.
 */
static inline int32_t qcc_mve_shifted(int32_t acc, int32_t shift, int32_t lo, int32_t hi)
{
    return qcc_mve_clamp(qcc_mve_asr(acc, -shift), lo, hi);
}

static inline int32_t qcc_mve_scaled(int32_t acc, int32_t mult, int32_t shift, int32_t lo, int32_t hi)
{
    const int64_t product = (int64_t)acc * mult;
    const int64_t high = (product >= 0) ? (product >> 31) : ~(~product >> 31);
    const int64_t sum = high + ((int64_t)1 << (-shift - 1));
    const int64_t v = (sum >= 0) ? (sum >> -shift) : ~(~sum >> -shift);

    return (v < lo) ? lo : ((v > hi) ? hi : (int32_t)v);
}

#endif /* QCC_MVE_H */
