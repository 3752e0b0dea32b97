/**
 * @file qcc_dsp_add.h
 * @brief Sum or difference of two tensors of one shape, four elements at a time; DSP extension.
 *
 * A kernel template: QCC_A, QCC_B, QCC_Y (types), QCC_FN, and
 *
 * QCC_FA, QCC_FB  exclusive or of an operand's bytes: makes them unsigned (128 more, or 255 minus
 *                 the byte, where it is subtracted)
 * QCC_KA, QCC_KB  their left shifts
 * QCC_CAP         clips from above: added with saturation at 65535, the constant part included
 * QCC_BASE        clips from below: then subtracted with saturation at 0
 * QCC_POST        right shift
 * QCC_LO          least output
 *
 *   y = (clamp((a << KA) + (b << KB) + c, lo << POST, ((hi + 1) << POST) - 1) >> POST), c the rounding
 * half and the offsets. The compiler has proved that all sums fit 16 bits without a sign. Elements go
 * upwards, so y may lie over a or b, or below.
 *
 * @param[in]  a, b  operands, n elements
 * @param[out] y     n elements
 */
#include "qcc_dsp_block.h"
#include "qcc_dsp_lanes.h"

/* Two bytes of every operand, as lanes of 16 bits, to two results. */
#define QCC_LANES(EXTRACT)                                                                       \
    (qcc_uqsub16(qcc_uqadd16((EXTRACT(u) << QCC_KA) + (EXTRACT(v) << QCC_KB), QCC_CAP * 0x10001u), \
                 QCC_BASE * 0x10001u))

static inline uint32_t QCC_PASTE(QCC_FN, _four)(uint32_t u, uint32_t v)
{
#if QCC_FA
    u ^= QCC_FA * 0x01010101u;
#endif
#if QCC_FB
    v ^= QCC_FB * 0x01010101u;
#endif
    {
#if QCC_POST == 0
        const uint32_t even = QCC_LANES(qcc_uxtb16);
        const uint32_t odd = QCC_LANES(qcc_uxtb16_ror8) << 8;
#else
        const uint32_t even = (QCC_LANES(qcc_uxtb16) >> QCC_POST) & 0x00FF00FFu;
        const uint32_t odd = (QCC_LANES(qcc_uxtb16_ror8) << (8 - QCC_POST)) & 0xFF00FF00u;
#endif

#if QCC_LO == 0
        return even | odd;
#else
        return qcc_uadd8(even | odd, ((uint32_t)QCC_LO & 0xFFu) * 0x01010101u);
#endif
    }
}

static QCC_DSP_KERNEL void QCC_FN(const QCC_A *a, const QCC_B *b, QCC_Y *y, int32_t n)
{
    for (; n >= 8; n -= 8) {
        qcc_dsp_store(y, QCC_PASTE(QCC_FN, _four)(qcc_dsp_load(a), qcc_dsp_load(b)));
        qcc_dsp_store(&y[4], QCC_PASTE(QCC_FN, _four)(qcc_dsp_load(&a[4]), qcc_dsp_load(&b[4])));
        a += 8;
        b += 8;
        y += 8;
    }
    for (; n > 0; n--) {
        const uint32_t r = QCC_PASTE(QCC_FN, _four)((uint32_t)*a & 0xFFu, (uint32_t)*b & 0xFFu);

        memcpy(y, &r, 1); /* the lowest byte, whatever its sign */
        a++;
        b++;
        y++;
    }
}

#undef QCC_LANES
#undef QCC_FN
#undef QCC_A
#undef QCC_B
#undef QCC_Y
#undef QCC_FA
#undef QCC_FB
#undef QCC_KA
#undef QCC_KB
#undef QCC_CAP
#undef QCC_BASE
#undef QCC_POST
#undef QCC_LO
