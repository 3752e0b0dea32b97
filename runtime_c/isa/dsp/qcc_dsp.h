/**
 * @file qcc_dsp.h
 * @brief The Armv7E-M / Armv8-M DSP instructions that qcc's kernels use, one function each.
 *
 * Three ways, the same bits: inline assembly (gcc, clang and armclang, optimising), the intrinsics
 * of the Arm C Language Extensions (QCC_NO_ASM, or no optimisation), and plain C where the DSP
 * extension is not there.
 */
#ifndef QCC_DSP_H
#define QCC_DSP_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "qcc_arith.h"

#if defined(__BYTE_ORDER__) && defined(__ORDER_BIG_ENDIAN__)
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#error "qcc's DSP kernels are written for little-endian processors"
#endif
#endif

#if defined(__ARM_FEATURE_DSP) && defined(__ARM_FEATURE_SIMD32) && !defined(QCC_NO_DSP)
#define QCC_DSP 1
#else
#define QCC_DSP 0
#endif

#if QCC_DSP && defined(__GNUC__) && defined(__OPTIMIZE__) && !defined(QCC_NO_ASM)
#define QCC_DSP_ASM 1
#else
#define QCC_DSP_ASM 0
#endif

#if QCC_DSP && !QCC_DSP_ASM
#include <arm_acle.h>
#endif

/* Kernels that several layers share are kept out of line: their code is there once. */
#ifndef QCC_NOINLINE
#if defined(__GNUC__)
#define QCC_NOINLINE __attribute__((noinline))
#else
#define QCC_NOINLINE
#endif
#endif

/* gcc's first scheduling pass lengthens live ranges: tiles of intrinsics spill, and blocks of
 * assembly that need every register find one taken. */
#if defined(__GNUC__) && !defined(__clang__) && QCC_DSP
#define QCC_DSP_KERNEL QCC_NOINLINE __attribute__((optimize("no-schedule-insns,omit-frame-pointer")))
#else
#define QCC_DSP_KERNEL QCC_NOINLINE
#endif

/** Four bytes at any address, the first one lowest. */
static inline uint32_t qcc_dsp_load(const void *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof v);
    return v;
}

/** Four bytes to any address. */
static inline void qcc_dsp_store(void *p, uint32_t v)
{
    memcpy(p, &v, sizeof v);
}

/** The low half of @p v as a signed number. */
static inline int32_t qcc_dsp_low(uint32_t v)
{
    return (int32_t)((v & 0xFFFFu) ^ 0x8000u) - 0x8000;
}

/** The high half of @p v as a signed number. */
static inline int32_t qcc_dsp_high(uint32_t v)
{
    return qcc_dsp_low(v >> 16);
}

/** Two halves in one word. */
static inline uint32_t qcc_dsp_pair(uint32_t low, uint32_t high)
{
    return (low & 0xFFFFu) | (high << 16);
}

/** @p v rotated right by 8. */
static inline uint32_t qcc_dsp_ror8(uint32_t v)
{
    return (v >> 8) | (v << 24);
}

/** floor(v / 2^s), s the lowest byte of @p shifts, at most 31. */
static inline int32_t qcc_dsp_asr(int32_t v, uint32_t shifts)
{
#if QCC_DSP_ASM
    int32_t r;

    __asm__("asr %0, %1, %2" : "=r"(r) : "r"(v), "r"(shifts)); /* reads no more than a byte */
    return r;
#else
    return qcc_asr32(v, (int32_t)(shifts & 0xFFu));
#endif
}

#if QCC_DSP_ASM
#define QCC_DSP_MAC(name, instruction)                                            \
    static inline int32_t name(int32_t acc, uint32_t a, uint32_t b)               \
    {                                                                             \
        int32_t r;                                                                \
        __asm__(instruction " %0, %1, %2, %3" : "=r"(r) : "r"(a), "r"(b), "r"(acc)); \
        return r;                                                                 \
    }
#define QCC_DSP_TWO(name, text)                               \
    static inline uint32_t name(uint32_t a, uint32_t b)       \
    {                                                         \
        uint32_t r;                                           \
        __asm__(text : "=r"(r) : "r"(a), "r"(b));             \
        return r;                                             \
    }
#define QCC_DSP_ONE(name, text)                   \
    static inline uint32_t name(uint32_t a)       \
    {                                             \
        uint32_t r;                               \
        __asm__(text : "=r"(r) : "r"(a));         \
        return r;                                 \
    }
QCC_DSP_MAC(qcc_smlad, "smlad")
QCC_DSP_MAC(qcc_dsp_mac, "smlad")
QCC_DSP_MAC(qcc_smlabb, "smlabb")
QCC_DSP_MAC(qcc_smlabt, "smlabt")
QCC_DSP_MAC(qcc_smlatb, "smlatb")
QCC_DSP_MAC(qcc_smlatt, "smlatt")
QCC_DSP_ONE(qcc_sxtb16, "sxtb16 %0, %1")
QCC_DSP_ONE(qcc_sxtb16_ror8, "sxtb16 %0, %1, ror #8")
QCC_DSP_ONE(qcc_uxtb16, "uxtb16 %0, %1")
QCC_DSP_ONE(qcc_uxtb16_ror8, "uxtb16 %0, %1, ror #8")
QCC_DSP_TWO(qcc_pkhbt16, "pkhbt %0, %1, %2, lsl #16")
QCC_DSP_TWO(qcc_pkhtb16, "pkhtb %0, %1, %2, asr #16")
QCC_DSP_TWO(qcc_sadd16, "sadd16 %0, %1, %2")
QCC_DSP_TWO(qcc_ssub16, "ssub16 %0, %1, %2")
static inline uint32_t qcc_dsp_add_bytes(uint32_t sum, uint32_t a)
{
    uint32_t r;

    __asm__("usada8 %0, %1, %2, %3" : "=r"(r) : "r"(a), "r"(0), "r"(sum));
    return r;
}
static inline int32_t qcc_smmla(int32_t acc, int32_t a, int32_t b)
{
    int32_t r;

    __asm__("smmla %0, %1, %2, %3" : "=r"(r) : "r"(a), "r"(b), "r"(acc));
    return r;
}
#elif QCC_DSP
/** acc + a.low * b.low + a.high * b.high */
static inline int32_t qcc_smlad(int32_t acc, uint32_t a, uint32_t b)
{
    return __smlad((int16x2_t)a, (int16x2_t)b, acc);
}
/** The same where the sums are right modulo 2^32. */
static inline int32_t qcc_dsp_mac(int32_t acc, uint32_t a, uint32_t b)
{
    return __smlad((int16x2_t)a, (int16x2_t)b, acc);
}
static inline int32_t qcc_smlabb(int32_t acc, uint32_t a, uint32_t b)
{
    return __smlabb((int32_t)a, (int32_t)b, acc);
}
static inline int32_t qcc_smlabt(int32_t acc, uint32_t a, uint32_t b)
{
    return __smlabt((int32_t)a, (int32_t)b, acc);
}
static inline int32_t qcc_smlatb(int32_t acc, uint32_t a, uint32_t b)
{
    return __smlatb((int32_t)a, (int32_t)b, acc);
}
static inline int32_t qcc_smlatt(int32_t acc, uint32_t a, uint32_t b)
{
    return __smlatt((int32_t)a, (int32_t)b, acc);
}
static inline uint32_t qcc_sxtb16(uint32_t a)
{
    return (uint32_t)__sxtb16((int8x4_t)a);
}
static inline uint32_t qcc_sxtb16_ror8(uint32_t a)
{
    return (uint32_t)__sxtb16((int8x4_t)qcc_dsp_ror8(a));
}
static inline uint32_t qcc_uxtb16(uint32_t a)
{
    return (uint32_t)__uxtb16((uint8x4_t)a);
}
static inline uint32_t qcc_uxtb16_ror8(uint32_t a)
{
    return (uint32_t)__uxtb16((uint8x4_t)qcc_dsp_ror8(a));
}
static inline uint32_t qcc_pkhbt16(uint32_t a, uint32_t b)
{
    return qcc_dsp_pair(a, b);
}
static inline uint32_t qcc_pkhtb16(uint32_t a, uint32_t b)
{
    return qcc_dsp_pair(b >> 16, a >> 16);
}
static inline uint32_t qcc_sadd16(uint32_t a, uint32_t b)
{
    return (uint32_t)__sadd16((int16x2_t)a, (int16x2_t)b);
}
static inline uint32_t qcc_ssub16(uint32_t a, uint32_t b)
{
    return (uint32_t)__ssub16((int16x2_t)a, (int16x2_t)b);
}
/** @p sum and the bytes of @p a */
static inline uint32_t qcc_dsp_add_bytes(uint32_t sum, uint32_t a)
{
    return __usada8((uint8x4_t)a, (uint8x4_t)0u, sum);
}
/** acc + floor(a * b / 2^32) */
static inline int32_t qcc_smmla(int32_t acc, int32_t a, int32_t b)
{
    return acc + (int32_t)(((int64_t)a * b) >> 32);
}
#else
/* Wrapping sums: the kernels never let one leave int32. */
static inline int32_t qcc_smlabb(int32_t acc, uint32_t a, uint32_t b)
{
    return acc + (qcc_dsp_low(a) * qcc_dsp_low(b));
}
static inline int32_t qcc_smlabt(int32_t acc, uint32_t a, uint32_t b)
{
    return acc + (qcc_dsp_low(a) * qcc_dsp_high(b));
}
static inline int32_t qcc_smlatb(int32_t acc, uint32_t a, uint32_t b)
{
    return acc + (qcc_dsp_high(a) * qcc_dsp_low(b));
}
static inline int32_t qcc_smlatt(int32_t acc, uint32_t a, uint32_t b)
{
    return acc + (qcc_dsp_high(a) * qcc_dsp_high(b));
}
static inline int32_t qcc_smlad(int32_t acc, uint32_t a, uint32_t b)
{
    return qcc_smlatt(qcc_smlabb(acc, a, b), a, b);
}
/** The same where the sums are right modulo 2^32. */
static inline int32_t qcc_dsp_mac(int32_t acc, uint32_t a, uint32_t b)
{
    const uint32_t low = (uint32_t)(qcc_dsp_low(a) * qcc_dsp_low(b));
    const uint32_t high = (uint32_t)(qcc_dsp_high(a) * qcc_dsp_high(b));

    return (int32_t)((uint32_t)acc + low + high);
}
/** Bytes 0 and 2, sign-extended to halves. */
static inline uint32_t qcc_sxtb16(uint32_t a)
{
    const uint32_t low = ((a & 0xFFu) ^ 0x80u) - 0x80u;
    const uint32_t high = (((a >> 16) & 0xFFu) ^ 0x80u) - 0x80u;

    return qcc_dsp_pair(low, high);
}
static inline uint32_t qcc_sxtb16_ror8(uint32_t a)
{
    return qcc_sxtb16(qcc_dsp_ror8(a));
}
static inline uint32_t qcc_uxtb16(uint32_t a)
{
    return a & 0x00FF00FFu;
}
static inline uint32_t qcc_uxtb16_ror8(uint32_t a)
{
    return (a >> 8) & 0x00FF00FFu;
}
/** Low half of a below, low half of b above. */
static inline uint32_t qcc_pkhbt16(uint32_t a, uint32_t b)
{
    return qcc_dsp_pair(a, b);
}
/** High half of b below, high half of a above. */
static inline uint32_t qcc_pkhtb16(uint32_t a, uint32_t b)
{
    return qcc_dsp_pair(b >> 16, a >> 16);
}
static inline uint32_t qcc_sadd16(uint32_t a, uint32_t b)
{
    return qcc_dsp_pair(a + b, (a >> 16) + (b >> 16));
}
static inline uint32_t qcc_ssub16(uint32_t a, uint32_t b)
{
    return qcc_dsp_pair(a - b, (a >> 16) - (b >> 16));
}
/** @p sum and the bytes of @p a */
static inline uint32_t qcc_dsp_add_bytes(uint32_t sum, uint32_t a)
{
    return sum + (a & 0xFFu) + ((a >> 8) & 0xFFu) + ((a >> 16) & 0xFFu) + (a >> 24);
}
/** acc + floor(a * b / 2^32) */
static inline int32_t qcc_smmla(int32_t acc, int32_t a, int32_t b)
{
    const int64_t product = (int64_t)a * b;

    return acc + (int32_t)((product >= 0) ? (product >> 32) : ~(~product >> 32));
}
#endif

#endif /* QCC_DSP_H */
