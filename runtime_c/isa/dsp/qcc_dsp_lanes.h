/**
 * @file qcc_dsp_lanes.h
 * @brief Arithmetic on two 16-bit or four 8-bit lanes of a word: what add and pooling use.
 *
 * Three ways, the same bits, as in qcc_dsp.h.
 */
#ifndef QCC_DSP_LANES_H
#define QCC_DSP_LANES_H

#include "qcc_dsp.h"

#if QCC_DSP_ASM
QCC_DSP_TWO(qcc_uqadd16, "uqadd16 %0, %1, %2")
QCC_DSP_TWO(qcc_uqsub16, "uqsub16 %0, %1, %2")
QCC_DSP_TWO(qcc_uadd8, "uadd8 %0, %1, %2")
QCC_DSP_TWO(qcc_uxtab16, "uxtab16 %0, %1, %2")
QCC_DSP_TWO(qcc_uxtab16_ror8, "uxtab16 %0, %1, %2, ror #8")
QCC_DSP_TWO(qcc_sxtab16, "sxtab16 %0, %1, %2")
QCC_DSP_TWO(qcc_sxtab16_ror8, "sxtab16 %0, %1, %2, ror #8")
static inline uint32_t qcc_umax8(uint32_t a, uint32_t b)
{
    uint32_t difference;

    __asm__("usub8 %1, %0, %2\n\tsel %0, %0, %2" : "+r"(a), "=&r"(difference) : "r"(b));
    return a;
}
static inline uint32_t qcc_smax8(uint32_t a, uint32_t b)
{
    uint32_t difference;

    __asm__("ssub8 %1, %0, %2\n\tsel %0, %0, %2" : "+r"(a), "=&r"(difference) : "r"(b));
    return a;
}
#else
/** Lanes of 16 bits: a + b, at most 65535. */
static inline uint32_t qcc_uqadd16(uint32_t a, uint32_t b)
{
#if QCC_DSP
    return (uint32_t)__uqadd16((uint16x2_t)a, (uint16x2_t)b);
#else
    const uint32_t low = (a & 0xFFFFu) + (b & 0xFFFFu);
    const uint32_t high = (a >> 16) + (b >> 16);

    return qcc_dsp_pair((low > 0xFFFFu) ? 0xFFFFu : low, (high > 0xFFFFu) ? 0xFFFFu : high);
#endif
}
/** Lanes of 16 bits: a - b, at least 0. */
static inline uint32_t qcc_uqsub16(uint32_t a, uint32_t b)
{
#if QCC_DSP
    return (uint32_t)__uqsub16((uint16x2_t)a, (uint16x2_t)b);
#else
    const uint32_t low = ((a & 0xFFFFu) > (b & 0xFFFFu)) ? ((a & 0xFFFFu) - (b & 0xFFFFu)) : 0u;
    const uint32_t high = ((a >> 16) > (b >> 16)) ? ((a >> 16) - (b >> 16)) : 0u;

    return qcc_dsp_pair(low, high);
#endif
}
/** Lanes of 8 bits: a + b, modulo 256. */
static inline uint32_t qcc_uadd8(uint32_t a, uint32_t b)
{
    return ((a & 0x7F7F7F7Fu) + (b & 0x7F7F7F7Fu)) ^ ((a ^ b) & 0x80808080u);
}
/** Lanes of 16 bits: a + bytes 0 and 2 of b, modulo 65536. */
static inline uint32_t qcc_uxtab16(uint32_t a, uint32_t b)
{
    return qcc_sadd16(a, qcc_uxtb16(b));
}
/** The same with bytes 1 and 3. */
static inline uint32_t qcc_uxtab16_ror8(uint32_t a, uint32_t b)
{
    return qcc_sadd16(a, qcc_uxtb16_ror8(b));
}
/** The same with signed bytes. */
static inline uint32_t qcc_sxtab16(uint32_t a, uint32_t b)
{
    return qcc_sadd16(a, qcc_sxtb16(b));
}
static inline uint32_t qcc_sxtab16_ror8(uint32_t a, uint32_t b)
{
    return qcc_sadd16(a, qcc_sxtb16_ror8(b));
}
/** Lanes of 8 bits: the larger of a and b. */
static inline uint32_t qcc_umax8(uint32_t a, uint32_t b)
{
    uint32_t r = 0;

    for (int32_t i = 0; i < 32; i += 8) {
        const uint32_t u = (a >> i) & 0xFFu;
        const uint32_t v = (b >> i) & 0xFFu;

        r |= ((u > v) ? u : v) << i;
    }
    return r;
}
/** The same of signed bytes. */
static inline uint32_t qcc_smax8(uint32_t a, uint32_t b)
{
    return qcc_umax8(a ^ 0x80808080u, b ^ 0x80808080u) ^ 0x80808080u;
}
#endif

#endif /* QCC_DSP_LANES_H */
