/**
 * @file qcc_dsp_block.h
 * @brief Inner products in registers: 4 or 2 output channels x 2 pixels, pairs of 16-bit inputs.
 *
 * A block takes some pairs of inputs of pixels A and B and the packed weights of the channels, and
 * adds the products to accumulators that stay in registers: with two pointers and four temporaries
 * they are all that Thumb-2 has, so qcc_dsp_tile.h is one piece of assembly made of these texts.
 * They are repeated, not looped (.rept), so that the compiler counts their size right.
 *
 * 8-bit weights: one word holds {c0 k0, c1 k0, c0 k1, c1 k1}, lowest byte first: SXTB16 gives the
 * pair of channel c0, SXTB16 rotated by 8 that of c1. 16-bit weights: one word {k0, k1} a channel.
 *
 * Packed weights: a half-word holds fields of 4 channels, the lowest bits those of channel 0; the low
 * half is for k0, the high one for k1. An AND with a mask gives the pair of a channel, shifted up by the
 * field's place, and so are its accumulators (qcc_dsp_lift.h): they are right modulo 2^32, biases come
 * shifted, and the last shift takes it back. Fields are unsigned, weight + 2^(bits-1); what that adds
 * is the same for every channel, a multiple of the sum of the pixel's inputs, and is taken off the
 * biases. 4-bit weights: one word a pair. The field of channel 3 reaches the sign and is in two's
 * complement, no offset. "4S", where accumulators are too large for that: channels 2 and 3 are
 * shifted down first. 2-bit weights: the low bytes of both halves are for one pair, the high bytes for
 * the next.
 */
#ifndef QCC_DSP_BLOCK_H
#define QCC_DSP_BLOCK_H

#include "qcc_dsp.h"

/** Most runs of a window. */
#define QCC_DSP_MOST_RUNS 16

#define QCC_TEXT_(x) #x
#define QCC_TEXT(x) QCC_TEXT_(x)
#define QCC_PASTE_(a, b) a##b
#define QCC_PASTE(a, b) QCC_PASTE_(a, b)

#define QCC_REP_1(X) X(0)
#define QCC_REP_2(X) QCC_REP_1(X) X(1)
#define QCC_REP_3(X) QCC_REP_2(X) X(2)
#define QCC_REP_4(X) QCC_REP_3(X) X(3)
#define QCC_REP_5(X) QCC_REP_4(X) X(4)
#define QCC_REP_6(X) QCC_REP_5(X) X(5)
#define QCC_REP_7(X) QCC_REP_6(X) X(6)
#define QCC_REP_8(X) QCC_REP_7(X) X(7)
#define QCC_REP_9(X) QCC_REP_8(X) X(8)
#define QCC_REP_10(X) QCC_REP_9(X) X(9)
#define QCC_REP_11(X) QCC_REP_10(X) X(10)
#define QCC_REP_12(X) QCC_REP_11(X) X(11)
#define QCC_REP_13(X) QCC_REP_12(X) X(12)
#define QCC_REP_14(X) QCC_REP_13(X) X(13)
#define QCC_REP_15(X) QCC_REP_14(X) X(14)
#define QCC_REP_16(X) QCC_REP_15(X) X(15)
#define QCC_REP_17(X) QCC_REP_16(X) X(16)
#define QCC_REP_18(X) QCC_REP_17(X) X(17)
#define QCC_REP_19(X) QCC_REP_18(X) X(18)
#define QCC_REP_20(X) QCC_REP_19(X) X(19)
#define QCC_REP_21(X) QCC_REP_20(X) X(20)
#define QCC_REP_22(X) QCC_REP_21(X) X(21)
#define QCC_REP_23(X) QCC_REP_22(X) X(22)
#define QCC_REP_24(X) QCC_REP_23(X) X(23)
#define QCC_REP_25(X) QCC_REP_24(X) X(24)
#define QCC_REP_26(X) QCC_REP_25(X) X(25)
#define QCC_REP_27(X) QCC_REP_26(X) X(26)
#define QCC_REP_28(X) QCC_REP_27(X) X(27)
#define QCC_REP_29(X) QCC_REP_28(X) X(28)
#define QCC_REP_30(X) QCC_REP_29(X) X(29)
#define QCC_REP_31(X) QCC_REP_30(X) X(30)
#define QCC_REP_32(X) QCC_REP_31(X) X(31)
/** X(0) X(1) ... X(n - 1), n a literal of 1 to 32. */
#define QCC_REPEAT(n, X) QCC_PASTE(QCC_REP_, n)(X)

/**
 * What a tile works on. The assembly takes every register, so all else is in memory; what the
 * compiler may keep in one for good (a frame pointer in r7, a static base in r9) is saved by it.
 *
 * Registers: r0-r3 accumulators of pixel A, r4-r6 and r8 of pixel B, r9 inputs, r10 weights, r11 and
 * r12 a pair of A and of B, r7 and lr weights.
 */
typedef struct {
    const uint32_t *w;   /* 0: stream */
    void *ya;            /* 4: outputs of pixel A */
    void *yb;            /* 8: outputs of pixel B */
    const uint32_t *end; /* 12: of the blocks of 4 channels in the stream */
    int32_t span;        /* 16: bytes of a run that whole blocks take */
    int32_t tiles;       /* 20: pairs of pixels, side by side */
    int32_t channels;    /* 24: bytes of a pixel's outputs */
    int32_t step;        /* 28: bytes from a tile's runs to the next one's */
    int32_t sum[2];      /* 32: what the offsets of packed weights add, pixel A and B */
    const int32_t *before; /* 40: the same, of the columns left of pixel A's window (lines) */
    const void *row[QCC_DSP_MOST_RUNS + 1]; /* 44: runs of inputs; NULL after the last */
} qcc_dsp_tile_t;

#if QCC_DSP_ASM

/* Inputs of pair i: in lines, pixel B lies QCC_STEP bytes after pixel A; else they alternate. */
#define QCC_DSP_LINES_AT(at) "ldr r11,[r9,#" at "]\n\tldr r12,[r9,#" at "+" QCC_TEXT(QCC_STEP) "]\n\t"
#define QCC_DSP_TWINS_AT(at) "ldrd r11,r12,[r9,#" at "]\n\t"
#define QCC_DSP_IN_LINES(i) QCC_DSP_LINES_AT("4*" #i)
#define QCC_DSP_IN_TWINS(i) QCC_DSP_TWINS_AT("8*" #i)

/* Two channels of 8-bit weights from the word at `at`. */
#define QCC_DSP_W8(at, a, b, c, d)                                                  \
    "ldr r7,[r10,#" at "]\n\tsxtb16 lr,r7\n\tsxtb16 r7,r7,ror #8\n\t"               \
    "smlad " a ",r11,lr," a "\n\tsmlad " c ",r12,lr," c "\n\t"                      \
    "smlad " b ",r11,r7," b "\n\tsmlad " d ",r12,r7," d "\n\t"
/* The same of 16-bit weights, from two words. */
#define QCC_DSP_W16(at, a, b, c, d)                                                 \
    "ldrd r7,lr,[r10,#" at "]\n\t"                                                  \
    "smlad " a ",r11,r7," a "\n\tsmlad " c ",r12,r7," c "\n\t"                      \
    "smlad " b ",r11,lr," b "\n\tsmlad " d ",r12,lr," d "\n\t"

/* One channel of packed weights: the fields that the mask selects. */
#define QCC_DSP_FIELD(mask, a, c) \
    "and lr,r7,#" mask "\n\tsmlad " a ",r11,lr," a "\n\tsmlad " c ",r12,lr," c "\n\t"
#define QCC_DSP_W4_LOW                                                              \
    QCC_DSP_FIELD("0x000F000F", "r0", "r4") QCC_DSP_FIELD("0x00F000F0", "r1", "r5")
#define QCC_DSP_W4(at)                                                              \
    "ldr r7,[r10,#" at "]\n\t" QCC_DSP_W4_LOW                                       \
    QCC_DSP_FIELD("0x0F000F00", "r2", "r6") QCC_DSP_FIELD("0xF000F000", "r3", "r8")
#define QCC_DSP_W4S(at)                                                             \
    "ldr r7,[r10,#" at "]\n\t" QCC_DSP_W4_LOW "lsr r7,r7,#8\n\t"                    \
    QCC_DSP_FIELD("0x000F000F", "r2", "r6") QCC_DSP_FIELD("0x00F000F0", "r3", "r8")
#define QCC_DSP_W2_LOW                                                              \
    QCC_DSP_FIELD("0x00030003", "r0", "r4") QCC_DSP_FIELD("0x000C000C", "r1", "r5")  \
    QCC_DSP_FIELD("0x00300030", "r2", "r6") QCC_DSP_FIELD("0x00C000C0", "r3", "r8")
#define QCC_DSP_W2(at) "ldr r7,[r10,#" at "]\n\t" QCC_DSP_W2_LOW
#define QCC_DSP_W2_HIGH "lsr r7,r7,#8\n\t" QCC_DSP_W2_LOW
#define QCC_DSP_RAISE(r, lift) "lsl " r "," r ",#" QCC_TEXT(QCC_UP) "-" QCC_TEXT(lift) "\n\t"
/* An accumulator less an offset, shifted up. */
#define QCC_DSP_LESS1(r, s, lift) "sub " r "," r "," s ",lsl #" QCC_TEXT(lift) "\n\t"

#define QCC_DSP_B4_LINES8(i) QCC_DSP_IN_LINES(i) \
    QCC_DSP_W8("8*" #i, "r0", "r1", "r4", "r5") QCC_DSP_W8("8*" #i "+4", "r2", "r3", "r6", "r8")
#define QCC_DSP_B4_TWINS8(i) QCC_DSP_IN_TWINS(i) \
    QCC_DSP_W8("8*" #i, "r0", "r1", "r4", "r5") QCC_DSP_W8("8*" #i "+4", "r2", "r3", "r6", "r8")
#define QCC_DSP_B4_LINES16(i) QCC_DSP_IN_LINES(i) \
    QCC_DSP_W16("16*" #i, "r0", "r1", "r4", "r5") QCC_DSP_W16("16*" #i "+8", "r2", "r3", "r6", "r8")
#define QCC_DSP_B4_TWINS16(i) QCC_DSP_IN_TWINS(i) \
    QCC_DSP_W16("16*" #i, "r0", "r1", "r4", "r5") QCC_DSP_W16("16*" #i "+8", "r2", "r3", "r6", "r8")
#define QCC_DSP_B4_LINES4(i) QCC_DSP_IN_LINES(i) QCC_DSP_W4("4*" #i)
#define QCC_DSP_B4_TWINS4(i) QCC_DSP_IN_TWINS(i) QCC_DSP_W4("4*" #i)
#define QCC_DSP_B4_LINES4S(i) QCC_DSP_IN_LINES(i) QCC_DSP_W4S("4*" #i)
#define QCC_DSP_B4_TWINS4S(i) QCC_DSP_IN_TWINS(i) QCC_DSP_W4S("4*" #i)
#define QCC_DSP_B4_LINES2(i) \
    QCC_DSP_LINES_AT("8*" #i) QCC_DSP_W2("4*" #i) QCC_DSP_LINES_AT("8*" #i "+4") QCC_DSP_W2_HIGH
#define QCC_DSP_B4_TWINS2(i) \
    QCC_DSP_TWINS_AT("16*" #i) QCC_DSP_W2("4*" #i) QCC_DSP_TWINS_AT("16*" #i "+8") QCC_DSP_W2_HIGH
#define QCC_DSP_B2_LINES8(i) QCC_DSP_IN_LINES(i) QCC_DSP_W8("4*" #i, "r0", "r1", "r4", "r5")
#define QCC_DSP_B2_TWINS8(i) QCC_DSP_IN_TWINS(i) QCC_DSP_W8("4*" #i, "r0", "r1", "r4", "r5")
#define QCC_DSP_B2_LINES16(i) QCC_DSP_IN_LINES(i) QCC_DSP_W16("8*" #i, "r0", "r1", "r4", "r5")
#define QCC_DSP_B2_TWINS16(i) QCC_DSP_IN_TWINS(i) QCC_DSP_W16("8*" #i, "r0", "r1", "r4", "r5")

#else /* the same, one pair at a time */

/* Two channels of pair (u_, v_) from the weights at W, which moves on. */
#define QCC_DSP_PAIR8(W, A0, A1, B0, B1)          \
    do {                                          \
        const uint32_t q_ = *(W)++;               \
        const uint32_t t_ = qcc_sxtb16(q_);       \
        const uint32_t r_ = qcc_sxtb16_ror8(q_);  \
        A0 = qcc_smlad(A0, u_, t_);               \
        B0 = qcc_smlad(B0, v_, t_);               \
        A1 = qcc_smlad(A1, u_, r_);               \
        B1 = qcc_smlad(B1, v_, r_);               \
    } while (0)
#define QCC_DSP_PAIR16(W, A0, A1, B0, B1)         \
    do {                                          \
        const uint32_t t_ = *(W)++;               \
        const uint32_t r_ = *(W)++;               \
        A0 = qcc_smlad(A0, u_, t_);               \
        B0 = qcc_smlad(B0, v_, t_);               \
        A1 = qcc_smlad(A1, u_, r_);               \
        B1 = qcc_smlad(B1, v_, r_);               \
    } while (0)
/* N pairs of a run at S, which moves on as W does; a0..a3 and b0..b3 are the accumulators. */
#define QCC_DSP_EACH4(N, S, STEP, VO, W, BITS)                               \
    for (int32_t n_ = 0; n_ < (N); n_++) {                                   \
        const uint32_t u_ = qcc_dsp_load(S);                                 \
        const uint32_t v_ = qcc_dsp_load((S) + (VO));                        \
        (S) += (STEP);                                                       \
        QCC_PASTE(QCC_DSP_PAIR, BITS)(W, a0, a1, b0, b1);                    \
        QCC_PASTE(QCC_DSP_PAIR, BITS)(W, a2, a3, b2, b3);                    \
    }
#define QCC_DSP_EACH2(N, S, STEP, VO, W, BITS)                               \
    for (int32_t n_ = 0; n_ < (N); n_++) {                                   \
        const uint32_t u_ = qcc_dsp_load(S);                                 \
        const uint32_t v_ = qcc_dsp_load((S) + (VO));                        \
        (S) += (STEP);                                                       \
        QCC_PASTE(QCC_DSP_PAIR, BITS)(W, a0, a1, b0, b1);                    \
    }
/** acc - (offset << lift), modulo 2^32. */
static inline int32_t qcc_dsp_less(int32_t acc, int32_t offset, int32_t lift)
{
    return (int32_t)((uint32_t)acc - ((uint32_t)offset << lift));
}
/* Pair (u_, v_) with four channels of packed weights. */
#define QCC_DSP_FIELDS(F0, F1, F2, F3)       \
    do {                                     \
        a0 = qcc_dsp_mac(a0, u_, F0);        \
        b0 = qcc_dsp_mac(b0, v_, F0);        \
        a1 = qcc_dsp_mac(a1, u_, F1);        \
        b1 = qcc_dsp_mac(b1, v_, F1);        \
        a2 = qcc_dsp_mac(a2, u_, F2);        \
        b2 = qcc_dsp_mac(b2, v_, F2);        \
        a3 = qcc_dsp_mac(a3, u_, F3);        \
        b3 = qcc_dsp_mac(b3, v_, F3);        \
    } while (0)
#define QCC_DSP_NEXT_PAIR(S, STEP, VO)                \
    const uint32_t u_ = qcc_dsp_load(S);              \
    const uint32_t v_ = qcc_dsp_load((S) + (VO));     \
    (S) += (STEP)
/* N words of packed weights, as QCC_DSP_EACH4. */
#define QCC_DSP_EACH_4(N, S, STEP, VO, W)                                                      \
    for (int32_t n_ = 0; n_ < (N); n_++) {                                                     \
        const uint32_t q_ = *(W)++;                                                            \
        QCC_DSP_NEXT_PAIR(S, STEP, VO);                                                        \
        QCC_DSP_FIELDS(q_ & 0x000F000Fu, q_ & 0x00F000F0u, q_ & 0x0F000F00u, q_ & 0xF000F000u); \
    }
#define QCC_DSP_EACH_4S(N, S, STEP, VO, W)                                                     \
    for (int32_t n_ = 0; n_ < (N); n_++) {                                                     \
        const uint32_t q_ = *(W)++;                                                            \
        const uint32_t r_ = q_ >> 8;                                                           \
        QCC_DSP_NEXT_PAIR(S, STEP, VO);                                                        \
        QCC_DSP_FIELDS(q_ & 0x000F000Fu, q_ & 0x00F000F0u, r_ & 0x000F000Fu, r_ & 0x00F000F0u); \
    }
#define QCC_DSP_EACH_2(N, S, STEP, VO, W)                                                      \
    for (int32_t n_ = 0; n_ < (2 * (N)); n_++) {                                               \
        const uint32_t q_ = ((n_ & 1) == 0) ? *(W) : (*(W)++ >> 8);                            \
        QCC_DSP_NEXT_PAIR(S, STEP, VO);                                                        \
        QCC_DSP_FIELDS(q_ & 0x00030003u, q_ & 0x000C000Cu, q_ & 0x00300030u, q_ & 0x00C000C0u); \
    }
#endif

#endif /* QCC_DSP_BLOCK_H */
