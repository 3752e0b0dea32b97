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
    const void *row[QCC_DSP_MOST_RUNS + 1]; /* 32: runs of inputs; NULL after the last */
} qcc_dsp_tile_t;

#if QCC_DSP_ASM

/* Inputs of pair i: in lines, pixel B lies QCC_STEP bytes after pixel A; else they alternate. */
#define QCC_DSP_IN_LINES(i) "ldr r11,[r9,#4*" #i "]\n\tldr r12,[r9,#4*" #i "+" QCC_TEXT(QCC_STEP) "]\n\t"
#define QCC_DSP_IN_TWINS(i) "ldrd r11,r12,[r9,#8*" #i "]\n\t"

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

#define QCC_DSP_B4_LINES8(i) QCC_DSP_IN_LINES(i) \
    QCC_DSP_W8("8*" #i, "r0", "r1", "r4", "r5") QCC_DSP_W8("8*" #i "+4", "r2", "r3", "r6", "r8")
#define QCC_DSP_B4_TWINS8(i) QCC_DSP_IN_TWINS(i) \
    QCC_DSP_W8("8*" #i, "r0", "r1", "r4", "r5") QCC_DSP_W8("8*" #i "+4", "r2", "r3", "r6", "r8")
#define QCC_DSP_B4_LINES16(i) QCC_DSP_IN_LINES(i) \
    QCC_DSP_W16("16*" #i, "r0", "r1", "r4", "r5") QCC_DSP_W16("16*" #i "+8", "r2", "r3", "r6", "r8")
#define QCC_DSP_B4_TWINS16(i) QCC_DSP_IN_TWINS(i) \
    QCC_DSP_W16("16*" #i, "r0", "r1", "r4", "r5") QCC_DSP_W16("16*" #i "+8", "r2", "r3", "r6", "r8")
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
#endif

#endif /* QCC_DSP_BLOCK_H */
