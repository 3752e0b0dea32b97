/**
 * @file qcc_dsp_clip.h
 * @brief Texts of assembly that bring accumulators to bytes; undone by qcc_dsp_clip_end.h.
 *
 * A part of a kernel template: it reads QCC_LO, QCC_HI, QCC_FORM, QCC_POST and QCC_NARROW, which
 * qcc_dsp_tile.h explains, and the totals of qcc_dsp_lift.h, and defines for the accumulators r0-r3 and
 * r4-r6, r8:
 *
 * QCC_DSP_ALL4(X), QCC_DSP_ALL2(X)  X(register, total) of each, or of r0, r1, r4, r5
 * QCC_DSP_UP4, QCC_DSP_UP2          the accumulators brought to their totals
 * QCC_DSP_BY_USAT                   1: a shift by QCC_POST and the clip are one USAT
 * QCC_DSP_PACK4, QCC_DSP_PACK2      shifted accumulators (multiplied ones, if BY_USAT) to bytes of
 *                                   r0 (from r0-r3, or r0 and r1) and of r4 (the others)
 */
#define QCC_DSP_SATURATES                                                                        \
    ((QCC_LO == 0) && ((QCC_HI == 255) || (QCC_HI == 127) || (QCC_HI == 63) || (QCC_HI == 31) || \
                       (QCC_HI == 15) || (QCC_HI == 7) || (QCC_HI == 3) || (QCC_HI == 1)))
#define QCC_DSP_BY_USAT \
    (QCC_DSP_SATURATES && (QCC_HI == 255) && ((QCC_FORM == 2) || ((QCC_FORM == 1) && (QCC_POST > 0))))

#define QCC_DSP_ALL4(X)                                                                          \
    X("r0", QCC_DSP_TOTAL0) X("r1", QCC_DSP_TOTAL1) X("r2", QCC_DSP_TOTAL2) X("r3", QCC_DSP_TOTAL3) \
    X("r4", QCC_DSP_TOTAL0) X("r5", QCC_DSP_TOTAL1) X("r6", QCC_DSP_TOTAL2) X("r8", QCC_DSP_TOTAL3)
#define QCC_DSP_ALL2(X) \
    X("r0", QCC_DSP_TOTAL0) X("r1", QCC_DSP_TOTAL1) X("r4", QCC_DSP_TOTAL0) X("r5", QCC_DSP_TOTAL1)
#define QCC_DSP_UP4                                                                              \
    QCC_DSP_RAISE0("r0") QCC_DSP_RAISE1("r1") QCC_DSP_RAISE2("r2") QCC_DSP_RAISE3("r3")          \
    QCC_DSP_RAISE0("r4") QCC_DSP_RAISE1("r5") QCC_DSP_RAISE2("r6") QCC_DSP_RAISE3("r8")
#define QCC_DSP_UP2 QCC_DSP_RAISE0("r0") QCC_DSP_RAISE1("r1") QCC_DSP_RAISE0("r4") QCC_DSP_RAISE1("r5")
#define QCC_DSP_DOWN(r, total) "asr " r "," r ",#" QCC_TEXT(QCC_POST) "+" QCC_TEXT(total) "\n\t"
#define QCC_DSP_USAT(r, total) "usat " r ",#8," r ",asr #" QCC_TEXT(QCC_POST) "+" QCC_TEXT(total) "\n\t"
#define QCC_DSP_SSAT(r, total) "ssat " r ",#16," r "\n\t"
#if QCC_NARROW
#define QCC_DSP_FIT4 ""
#define QCC_DSP_FIT2 ""
#else
#define QCC_DSP_FIT4 QCC_DSP_ALL4(QCC_DSP_SSAT)
#define QCC_DSP_FIT2 QCC_DSP_ALL2(QCC_DSP_SSAT)
#endif

/* Clip halves: channels 0 and 2 in one word, 1 and 3 in another. */
#if QCC_DSP_SATURATES
#if QCC_HI == 255
#define QCC_DSP_CLIP(r) "usat16 " r ",#8," r "\n\t"
#elif QCC_HI == 127
#define QCC_DSP_CLIP(r) "usat16 " r ",#7," r "\n\t"
#elif QCC_HI == 63
#define QCC_DSP_CLIP(r) "usat16 " r ",#6," r "\n\t"
#elif QCC_HI == 31
#define QCC_DSP_CLIP(r) "usat16 " r ",#5," r "\n\t"
#elif QCC_HI == 15
#define QCC_DSP_CLIP(r) "usat16 " r ",#4," r "\n\t"
#elif QCC_HI == 7
#define QCC_DSP_CLIP(r) "usat16 " r ",#3," r "\n\t"
#elif QCC_HI == 3
#define QCC_DSP_CLIP(r) "usat16 " r ",#2," r "\n\t"
#else
#define QCC_DSP_CLIP(r) "usat16 " r ",#1," r "\n\t"
#endif
#define QCC_DSP_LIMITS ""
#else
#if QCC_HI == 127
#define QCC_DSP_CLIP_HI(r) "ssat16 " r ",#8," r "\n\t"
#define QCC_DSP_LIMIT_HI ""
#else
#define QCC_DSP_CLIP_HI(r) "ssub16 r12,r7," r "\n\tsel " r "," r ",r7\n\t"
#define QCC_DSP_LIMIT_HI "movw r7,#" QCC_TEXT(QCC_HI) "&0xFFFF\n\tpkhbt r7,r7,r7,lsl #16\n\t"
#endif
#if (QCC_LO == -128) && (QCC_HI == 127)
#define QCC_DSP_CLIP_LO(r) ""
#define QCC_DSP_LIMIT_LO ""
#else
#define QCC_DSP_CLIP_LO(r) "ssub16 r12," r ",r9\n\tsel " r "," r ",r9\n\t"
#define QCC_DSP_LIMIT_LO "movw r9,#" QCC_TEXT(QCC_LO) "&0xFFFF\n\tpkhbt r9,r9,r9,lsl #16\n\t"
#endif
#if QCC_LO < 0
#define QCC_DSP_CLIP(r) QCC_DSP_CLIP_HI(r) QCC_DSP_CLIP_LO(r) "uxtb16 " r "," r "\n\t"
#else
#define QCC_DSP_CLIP(r) QCC_DSP_CLIP_HI(r) QCC_DSP_CLIP_LO(r)
#endif
#define QCC_DSP_LIMITS QCC_DSP_LIMIT_HI QCC_DSP_LIMIT_LO
#endif

#if QCC_DSP_BY_USAT
#define QCC_DSP_PACK4                                                                            \
    QCC_DSP_ALL4(QCC_DSP_USAT)                                                                   \
    "orr r0,r0,r1,lsl #8\n\torr r0,r0,r2,lsl #16\n\torr r0,r0,r3,lsl #24\n\t"                    \
    "orr r4,r4,r5,lsl #8\n\torr r4,r4,r6,lsl #16\n\torr r4,r4,r8,lsl #24\n\t"
#define QCC_DSP_PACK2 QCC_DSP_ALL2(QCC_DSP_USAT) "orr r0,r0,r1,lsl #8\n\torr r4,r4,r5,lsl #8\n\t"
#else
#define QCC_DSP_PACK4                                                                            \
    QCC_DSP_FIT4 QCC_DSP_LIMITS                                                                  \
    "pkhbt r0,r0,r2,lsl #16\n\tpkhbt r1,r1,r3,lsl #16\n\t"                                       \
    "pkhbt r4,r4,r6,lsl #16\n\tpkhbt r5,r5,r8,lsl #16\n\t"                                       \
    QCC_DSP_CLIP("r0") QCC_DSP_CLIP("r1") QCC_DSP_CLIP("r4") QCC_DSP_CLIP("r5")                  \
    "orr r0,r0,r1,lsl #8\n\torr r4,r4,r5,lsl #8\n\t"
/* On the way r0 holds r0 and r4, and r1 holds r1 and r5. */
#define QCC_DSP_PACK2                                                                            \
    QCC_DSP_FIT2 QCC_DSP_LIMITS                                                                  \
    "pkhbt r0,r0,r4,lsl #16\n\tpkhbt r1,r1,r5,lsl #16\n\t" QCC_DSP_CLIP("r0") QCC_DSP_CLIP("r1") \
    "orr r0,r0,r1,lsl #8\n\tlsr r4,r0,#16\n\t"
#endif
