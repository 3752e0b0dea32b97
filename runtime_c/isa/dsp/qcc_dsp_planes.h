/**
 * @file qcc_dsp_planes.h
 * @brief Four channels of an image as four planes of 16-bit values: what the depthwise kernel reads.
 *
 * Two neighbouring columns of one plane are one word, and the four planes alternate: word n of plane
 * q is word 4 * n + q of a row. So four channels are unpacked with one multiple store, and a window of
 * one plane is loads at small offsets.
 */
#ifndef QCC_DSP_PLANES_H
#define QCC_DSP_PLANES_H

#include "qcc_dsp_block.h"

/*
 * An output of a depthwise kernel: QCC_FORM, QCC_POST, QCC_LO, QCC_HI as in qcc_dsp_tile.h, `entry` the
 * shift or the multiplier of its channel.
 */
#define QCC_DSP_OUT_0(acc) qcc_dsp_asr((acc), entry)
#define QCC_DSP_OUT_1(acc) qcc_asr32((acc), QCC_POST)
#define QCC_DSP_OUT_2(acc) qcc_asr32(qcc_smmla((int32_t)1 << (QCC_POST - 1), (acc), (int32_t)entry), QCC_POST)
#define QCC_DSP_OUTPUT(acc) (QCC_Y) qcc_clamp32(QCC_PASTE(QCC_DSP_OUT_, QCC_FORM)(acc), QCC_LO, QCC_HI)

/** Bytes of the same word of all planes: the distance of neighbouring words of one. */
#define QCC_DSP_WORD 16

/* Code that is there once, and not at all if no layer of the model calls it. */
#if defined(__GNUC__)
#define QCC_DSP_SHARED static __attribute__((noinline, unused))
#else
#define QCC_DSP_SHARED static inline
#endif

/* Before a loop of constant length that is to become straight code. */
#if defined(__clang__)
#define QCC_DSP_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define QCC_DSP_UNROLL _Pragma("GCC unroll 8")
#else
#define QCC_DSP_UNROLL
#endif

/** The low half of @p a and the high half of @p b. */
static inline uint32_t qcc_dsp_merge(uint32_t a, uint32_t b)
{
    return (a & 0xFFFFu) | (b & 0xFFFF0000u);
}

/** Four words to @p d, 8-aligned; where the next ones go. */
static inline uint32_t *qcc_dsp_put(uint32_t *d, uint32_t a, uint32_t b, uint32_t e, uint32_t f)
{
#if QCC_DSP_ASM
    __asm__ volatile("strd %1, %2, [%0], #8\n\tstrd %3, %4, [%0], #8"
                     : "+r"(d)
                     : "r"(a), "r"(b), "r"(e), "r"(f)
                     : "memory");
    return d;
#else
    d[0] = a;
    d[1] = b;
    d[2] = e;
    d[3] = f;
    return &d[4];
#endif
}

/** Four channels of one pixel, 16 bits each, to the half-word @p d of every plane. */
static inline void qcc_dsp_scatter(uint16_t *d, uint32_t even, uint32_t odd)
{
    d[0] = (uint16_t)(even & 0xFFFFu);
    d[2] = (uint16_t)(odd & 0xFFFFu);
    d[4] = (uint16_t)(even >> 16);
    d[6] = (uint16_t)(odd >> 16);
}

/*
 * Four channels of n neighbouring pixels of some rows to columns left .. left + n - 1 of as many rows
 * of the planes. x is the first of four channels of the first pixel; pixels are c bytes apart, rows
 * of the image `pitch`, of the planes `wide`.
 */
#define QCC_DSP_UNPACK(name, EVEN, ODD)                                                          \
    QCC_DSP_SHARED void name(void *planes, const void *from, int32_t left, int32_t n, int32_t c, \
                             int32_t rows, int32_t wide, int32_t pitch)                          \
    {                                                                                            \
        const uint8_t *line = (const uint8_t *)from;                                             \
        uint8_t *row = &((uint8_t *)planes)[(left >> 1) * QCC_DSP_WORD];                         \
                                                                                                 \
        for (; rows > 0; rows--) {                                                               \
            const uint8_t *x = line;                                                             \
            uint32_t *d = (uint32_t *)(void *)row;                                               \
            int32_t todo = n;                                                                    \
                                                                                                 \
            if (((left & 1) != 0) && (todo > 0)) {                                               \
                const uint32_t v = qcc_dsp_load(x);                                              \
                                                                                                 \
                qcc_dsp_scatter(&((uint16_t *)(void *)d)[1], EVEN(v), ODD(v));                   \
                x += c;                                                                          \
                d += 4;                                                                          \
                todo--;                                                                          \
            }                                                                                    \
            for (; todo > 1; todo -= 2) {                                                        \
                const uint32_t v = qcc_dsp_load(x);                                              \
                const uint32_t u = qcc_dsp_load(&x[c]);                                          \
                const uint32_t v0 = EVEN(v);                                                     \
                const uint32_t v1 = ODD(v);                                                      \
                const uint32_t u0 = EVEN(u);                                                     \
                const uint32_t u1 = ODD(u);                                                      \
                                                                                                 \
                d = qcc_dsp_put(d, qcc_pkhbt16(v0, u0), qcc_pkhbt16(v1, u1), qcc_pkhtb16(u0, v0), \
                                qcc_pkhtb16(u1, v1));                                            \
                x += 2 * c;                                                                      \
            }                                                                                    \
            if (todo > 0) {                                                                      \
                const uint32_t v = qcc_dsp_load(x);                                              \
                                                                                                 \
                qcc_dsp_scatter((uint16_t *)(void *)d, EVEN(v), ODD(v));                         \
            }                                                                                    \
            row += wide;                                                                         \
            line += pitch;                                                                       \
        }                                                                                        \
    }

QCC_DSP_UNPACK(qcc_dsp_unpack_u8, qcc_uxtb16, qcc_uxtb16_ror8)
QCC_DSP_UNPACK(qcc_dsp_unpack_s8, qcc_sxtb16, qcc_sxtb16_ror8)

/** The same for images of fewer than four channels, a byte at a time; @p sign: 128, 0 for unsigned. */
QCC_DSP_SHARED void qcc_dsp_unpack_few(void *planes, const void *from, int32_t left, int32_t n, int32_t c,
                                       int32_t rows, int32_t wide, int32_t pitch, int32_t sign)
{
    const uint8_t *line = (const uint8_t *)from;
    uint8_t *row = (uint8_t *)planes;

    for (; rows > 0; rows--) {
        const uint8_t *x = line;

        for (int32_t i = left; i < (left + n); i++) {
            int16_t *d = &((int16_t *)(void *)row)[((i >> 1) * 8) + (i & 1)];

            for (int32_t q = 0; q < c; q++) {
                d[2 * q] = (int16_t)(((int32_t)x[q] ^ sign) - sign);
            }
            x += c;
        }
        row += wide;
        line += pitch;
    }
}

/** @p n groups of four words become zero. */
QCC_DSP_SHARED void qcc_dsp_zero(void *to, int32_t n)
{
    uint32_t *d = (uint32_t *)to;

    for (; n > 0; n--) {
        d = qcc_dsp_put(d, 0, 0, 0, 0);
    }
}

/** @p n groups of four words move down to a lower address. */
QCC_DSP_SHARED void qcc_dsp_move(void *to, const void *from, int32_t n)
{
    uint32_t *d = (uint32_t *)to;
    const uint32_t *s = (const uint32_t *)from;

    for (; n > 0; n--) {
        d = qcc_dsp_put(d, s[0], s[1], s[2], s[3]);
        s += 4;
    }
}

/** @p n bytes move down to a lower address, which they may overlap. */
QCC_DSP_SHARED void qcc_dsp_move_bytes(void *to, const void *from, int32_t n)
{
    uint8_t *d = (uint8_t *)to;
    const uint8_t *s = (const uint8_t *)from;

    for (; n >= 8; n -= 8) {
        const uint32_t a = qcc_dsp_load(s);
        const uint32_t b = qcc_dsp_load(&s[4]);

        qcc_dsp_store(d, a);
        qcc_dsp_store(&d[4], b);
        s += 8;
        d += 8;
    }
    for (; n > 0; n--) {
        *d = *s;
        s++;
        d++;
    }
}

#endif /* QCC_DSP_PLANES_H */
