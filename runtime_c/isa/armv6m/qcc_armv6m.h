/**
 * @file qcc_armv6m.h
 * @brief What qcc's kernels for ARMv6-M (Cortex-M0, M0+, M1) share: two products per multiply.
 *
 * The core has no DSP instruction, but its multiplier makes 32 bits. A word that holds two values
 * of 8 bits, a and b << 16, times an unsigned byte u is a * u in the low half and b * u in the
 * high half: neither reaches 2^16. So each word of activations is two pixels, and one MULS serves
 * both. Two sums per channel tell the pixels apart at the end: T of the whole products, modulo
 * 2^32, and H of their high halves. The second pixel's sum is H, the first one's T - (H << 16).
 *
 * Weights are stored as unsigned bytes, u = w + z with one z per channel, so that LDRB reads them
 * with an offset in the instruction. The kernels subtract z times the sum of the inputs. Signed
 * inputs are read as x + 128, a flip of the highest bit; the bias table makes up for it.
 *
 * Buffers of such words are written by halves (uint16_t), the first pixel's at even indices. They
 * lie in memory that the caller has aligned, the only memory that is read by words here: ARMv6-M
 * has no unaligned loads.
 *
 * Two ways, the same bits: inline assembly (gcc and clang, optimising), or C. On ARMv7-M (Cortex-M3)
 * the assembly uses what that has beyond ARMv6-M.
 */
#ifndef QCC_ARMV6M_H
#define QCC_ARMV6M_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "qcc_arith.h"

#if defined(__BYTE_ORDER__) && defined(__ORDER_BIG_ENDIAN__)
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#error "qcc's ARMv6-M kernels are written for little-endian processors"
#endif
#endif

#if defined(__thumb__) && defined(__GNUC__) && defined(__OPTIMIZE__) && !defined(QCC_NO_ASM)
#define QCC_ARMV6M_ASM 1
#else
#define QCC_ARMV6M_ASM 0
#endif

/* ARMv7-M has MLA and adds shifted registers: fewer instructions for the same words. */
#if QCC_ARMV6M_ASM && defined(__ARM_ARCH) && (__ARM_ARCH >= 7)
#define QCC_ARMV6M_THUMB2 1
#else
#define QCC_ARMV6M_THUMB2 0
#endif

/* Kernels that several layers share are kept out of line: their code is there once. */
#ifndef QCC_NOINLINE
#if defined(__GNUC__)
#define QCC_NOINLINE __attribute__((noinline))
#else
#define QCC_NOINLINE
#endif
#endif

/* A name for what belongs to one instance of a kernel template. */
#define QCC_ARMV6M_PASTE(a, b) a##b
#define QCC_ARMV6M_NAME(a, b) QCC_ARMV6M_PASTE(a, b)

/*
 * Rescaling of a sum of products to [lo, hi], by QCC_FORM. The tables of a kernel hold one record of
 * QCC_ARMV6M_RECORD(form) words per channel: k, the shift in the lowest byte of the second word, and
 * what the form needs.
 *   form 0:  (sum + k) >> shift
 *   form 1:  (sum * mult + k) >> shift, the compiler has proved that 32 bits hold it
 *   form 2:  ((sum + k) * mult / 2^32 + half) >> shift, half = 2^(shift - 1), |sum + k| < 2^30; the
 *            record holds mult and half - 2^14
 */
#define QCC_ARMV6M_RECORD(form) ((form) + 2)

/** floor(a * m / 2^32) + 2^14, |a| < 2^30, 0 <= m < 2^31: four products of 16 bits. */
static inline int32_t qcc_armv6m_high(int32_t a, uint32_t m)
{
    const uint32_t a0 = (uint32_t)a & 0xFFFFu;
    const int32_t a1 = qcc_asr32(a, 16);
    const uint32_t m0 = m & 0xFFFFu;
    const uint32_t m1 = m >> 16;
    /* a0 * m1 + 2^16 < 2^31 and |a1 * m0| <= 2^30: with 2^30 added, the sum is not negative. */
    const uint32_t middle = ((a0 * m1) + ((a0 * m0) >> 16)) + ((uint32_t)a1 * m0) + 0x40000000u;

    return (a1 * (int32_t)m1) + (int32_t)(middle >> 16);
}

/** A sum of products modulo 2^32, rescaled by the record r of form 0, 1 or 2, saturated to [lo, hi]. */
static inline int32_t qcc_armv6m_rescale(int32_t form, uint32_t sum, const int32_t *r, int32_t lo, int32_t hi)
{
    const int32_t shift = r[1] & 0xFF;
    int32_t v;

    if (form == 1) {
        v = (int32_t)((sum * (uint32_t)r[2]) + (uint32_t)r[0]);
    } else {
        v = (int32_t)(sum + (uint32_t)r[0]);
        if (form == 2) {
            v = qcc_armv6m_high(v, (uint32_t)r[2]) + r[3];
        }
    }
    return qcc_clamp32(qcc_asr32(v, shift), lo, hi);
}

#endif /* QCC_ARMV6M_H */
