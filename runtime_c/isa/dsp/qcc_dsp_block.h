/**
 * @file qcc_dsp_block.h
 * @brief Inner products in registers: 4 or 2 output channels x 2 pixels, pairs of 16-bit inputs.
 *
 * A block takes N pairs of inputs of pixel A (and of pixel B) and the packed weights of the
 * channels, and adds the products to accumulators that stay in registers: with the two pointers and
 * four temporaries they are all that Thumb-2 has, so the chain is one piece of assembly. N and the
 * distance of the pixels are literals; the text is repeated, not looped, so that the compiler
 * counts its size right.
 *
 * 8-bit weights: one word holds {c0 k0, c1 k0, c0 k1, c1 k1}, lowest byte first: SXTB16 gives the
 * pair of channel c0, SXTB16 rotated by 8 that of c1. 16-bit weights: one word {k0, k1} a channel.
 */
#ifndef QCC_DSP_BLOCK_H
#define QCC_DSP_BLOCK_H

#include "qcc_dsp.h"

#if QCC_DSP_ASM && !defined(__clang__)
#define QCC_DSP_BLOCK_ASM 1
#else
#define QCC_DSP_BLOCK_ASM 0
#endif

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

#if QCC_DSP_BLOCK_ASM

/* Inputs of pair i: in lines, pixel B lies `vo` bytes after pixel A; interleaved, one word after. */
#define QCC_DSP_IN_LINES(i) "ldr %[u],[%[s],#4*" #i "]\n\tldr %[v],[%[s],#4*" #i "+%c[vo]]\n\t"
#define QCC_DSP_IN_TWINS(i) "ldrd %[u],%[v],[%[s],#8*" #i "]\n\t"

/* Two channels of 8-bit weights from the word at `at`. */
#define QCC_DSP_W8(at, a, b, c, d)                                                         \
    "ldr %[q],[%[w],#" at "]\n\tsxtb16 %[t],%[q]\n\tsxtb16 %[q],%[q],ror #8\n\t"           \
    "smlad %[" a "],%[u],%[t],%[" a "]\n\tsmlad %[" c "],%[v],%[t],%[" c "]\n\t"           \
    "smlad %[" b "],%[u],%[q],%[" b "]\n\tsmlad %[" d "],%[v],%[q],%[" d "]\n\t"
/* The same of 16-bit weights, from two words. */
#define QCC_DSP_W16(at, a, b, c, d)                                                        \
    "ldrd %[q],%[t],[%[w],#" at "]\n\t"                                                    \
    "smlad %[" a "],%[u],%[q],%[" a "]\n\tsmlad %[" c "],%[v],%[q],%[" c "]\n\t"           \
    "smlad %[" b "],%[u],%[t],%[" b "]\n\tsmlad %[" d "],%[v],%[t],%[" d "]\n\t"

#define QCC_DSP_B4_LINES8(i) QCC_DSP_IN_LINES(i) \
    QCC_DSP_W8("8*" #i, "a0", "a1", "b0", "b1") QCC_DSP_W8("8*" #i "+4", "a2", "a3", "b2", "b3")
#define QCC_DSP_B4_TWINS8(i) QCC_DSP_IN_TWINS(i) \
    QCC_DSP_W8("8*" #i, "a0", "a1", "b0", "b1") QCC_DSP_W8("8*" #i "+4", "a2", "a3", "b2", "b3")
#define QCC_DSP_B4_LINES16(i) QCC_DSP_IN_LINES(i) \
    QCC_DSP_W16("16*" #i, "a0", "a1", "b0", "b1") QCC_DSP_W16("16*" #i "+8", "a2", "a3", "b2", "b3")
#define QCC_DSP_B4_TWINS16(i) QCC_DSP_IN_TWINS(i) \
    QCC_DSP_W16("16*" #i, "a0", "a1", "b0", "b1") QCC_DSP_W16("16*" #i "+8", "a2", "a3", "b2", "b3")
#define QCC_DSP_B2_LINES8(i) QCC_DSP_IN_LINES(i) QCC_DSP_W8("4*" #i, "a0", "a1", "b0", "b1")
#define QCC_DSP_B2_TWINS8(i) QCC_DSP_IN_TWINS(i) QCC_DSP_W8("4*" #i, "a0", "a1", "b0", "b1")
#define QCC_DSP_B2_LINES16(i) QCC_DSP_IN_LINES(i) QCC_DSP_W16("8*" #i, "a0", "a1", "b0", "b1")
#define QCC_DSP_B2_TWINS16(i) QCC_DSP_IN_TWINS(i) QCC_DSP_W16("8*" #i, "a0", "a1", "b0", "b1")

/* a0..a3, b0..b3 (or a0, a1, b0, b1), int32_t, are the accumulators in scope. */
#define QCC_DSP_BLOCK4(N, VO, S, W, BODY, SSTEP, WSTEP)                                              \
    do {                                                                                             \
        uint32_t u_, v_, q_, t_;                                                                     \
        __asm__ volatile(QCC_REPEAT(N, BODY) "add %[s],%[s],#%c[sn]\n\tadd %[w],%[w],#%c[wn]"        \
                         : [a0] "+r"(a0), [a1] "+r"(a1), [a2] "+r"(a2), [a3] "+r"(a3), [b0] "+r"(b0), \
                           [b1] "+r"(b1), [b2] "+r"(b2), [b3] "+r"(b3), [s] "+r"(S), [w] "+r"(W),    \
                           [u] "=&r"(u_), [v] "=&r"(v_), [q] "=&r"(q_), [t] "=&r"(t_)                \
                         : [vo] "i"(VO), [sn] "i"((SSTEP) * (N)), [wn] "i"((WSTEP) * (N))            \
                         : "memory");                                                                \
    } while (0)
#define QCC_DSP_BLOCK2(N, VO, S, W, BODY, SSTEP, WSTEP)                                              \
    do {                                                                                             \
        uint32_t u_, v_, q_, t_;                                                                     \
        __asm__ volatile(QCC_REPEAT(N, BODY) "add %[s],%[s],#%c[sn]\n\tadd %[w],%[w],#%c[wn]"        \
                         : [a0] "+r"(a0), [a1] "+r"(a1), [b0] "+r"(b0), [b1] "+r"(b1), [s] "+r"(S),  \
                           [w] "+r"(W), [u] "=&r"(u_), [v] "=&r"(v_), [q] "=&r"(q_), [t] "=&r"(t_)   \
                         : [vo] "i"(VO), [sn] "i"((SSTEP) * (N)), [wn] "i"((WSTEP) * (N))            \
                         : "memory");                                                                \
    } while (0)

/* Word-wise inputs at S, `const uint32_t *`; BITS of weights at W, `const uint32_t *`. */
#define QCC_DSP_LINES4(N, VO, S, W, BITS) \
    QCC_DSP_BLOCK4(N, VO, S, W, QCC_PASTE(QCC_DSP_B4_LINES, BITS), 4, BITS)
#define QCC_DSP_LINES2(N, VO, S, W, BITS) \
    QCC_DSP_BLOCK2(N, VO, S, W, QCC_PASTE(QCC_DSP_B2_LINES, BITS), 4, (BITS) / 2)
#define QCC_DSP_TWINS4(N, S, W, BITS) \
    QCC_DSP_BLOCK4(N, 0, S, W, QCC_PASTE(QCC_DSP_B4_TWINS, BITS), 8, BITS)
#define QCC_DSP_TWINS2(N, S, W, BITS) \
    QCC_DSP_BLOCK2(N, 0, S, W, QCC_PASTE(QCC_DSP_B2_TWINS, BITS), 8, (BITS) / 2)

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
#define QCC_DSP_EACH4(N, S, STEP, VO, W, BITS)                               \
    for (int32_t n_ = 0; n_ < (N); n_++) {                                   \
        const uint32_t u_ = qcc_dsp_load(S);                                 \
        const uint32_t v_ = qcc_dsp_load((const uint8_t *)(S) + (VO));       \
        (S) = (const void *)((const uint8_t *)(S) + (STEP));                 \
        QCC_PASTE(QCC_DSP_PAIR, BITS)(W, a0, a1, b0, b1);                    \
        QCC_PASTE(QCC_DSP_PAIR, BITS)(W, a2, a3, b2, b3);                    \
    }
#define QCC_DSP_EACH2(N, S, STEP, VO, W, BITS)                               \
    for (int32_t n_ = 0; n_ < (N); n_++) {                                   \
        const uint32_t u_ = qcc_dsp_load(S);                                 \
        const uint32_t v_ = qcc_dsp_load((const uint8_t *)(S) + (VO));       \
        (S) = (const void *)((const uint8_t *)(S) + (STEP));                 \
        QCC_PASTE(QCC_DSP_PAIR, BITS)(W, a0, a1, b0, b1);                    \
    }
#define QCC_DSP_LINES4(N, VO, S, W, BITS) QCC_DSP_EACH4(N, S, 4, VO, W, BITS)
#define QCC_DSP_LINES2(N, VO, S, W, BITS) QCC_DSP_EACH2(N, S, 4, VO, W, BITS)
#define QCC_DSP_TWINS4(N, S, W, BITS) QCC_DSP_EACH4(N, S, 8, 4, W, BITS)
#define QCC_DSP_TWINS2(N, S, W, BITS) QCC_DSP_EACH2(N, S, 8, 4, W, BITS)

#endif

#endif /* QCC_DSP_BLOCK_H */
