/**
 * @file qcc_armv6m_eight.h
 * @brief ARMv6-M: all channels of eight pixels of a convolution with weights of 4 or 2 bits.
 *
 * Two pixels share a word, a + b * 2^16, and so do their sums: where no sum leaves 16 bits, which
 * the compiler proves of every channel, nothing has to be told apart before the end. Sums of words
 * are sums modulo 2^32, so a and b may be negative.
 *
 * Weights lie in words, the first one in the lowest bits, each as a digit d = w + 2^(bits - 1). A
 * shift that takes away the digits before one leaves those behind it. With B = 2^bits, v(i) the word
 * shifted by i digits and P(i) the words of activations,
 *   sum of d(i) * P(i) = sum of v(i) * Q(i),   Q(i) = P(i) - B * P(i - 1), Q(0) = P(0),
 * because d(i) = v(i) - B * v(i + 1): the buffer holds Q, and no digit has to be cut out. What the
 * offset of the digits adds is the same for all channels, -2^(bits - 1) * sum of P.
 */
#ifndef QCC_ARMV6M_EIGHT_H
#define QCC_ARMV6M_EIGHT_H

#include "qcc_armv6m_forms.h"

/** Words of a value: eight pixels. */
#define QCC_ARMV6M_WORDS 4

/** Eight pixels. The assembly knows the order of the members, two groups of six words. */
typedef struct {
    const uint32_t *q;   /* of each value four words, as many as whole words of weights */
    const uint32_t *end; /* where they end */
    uint32_t start[QCC_ARMV6M_WORDS]; /* what the sums begin with */
    int32_t range;       /* outputs are lo to lo + range */
    int32_t lo;
    const int32_t *records; /* per channel, see qcc_armv6m.h; form 3 begins with k * (1 + 2^16) */
    uint8_t *y;          /* outputs of the first pixel */
    int32_t step;        /* from a pixel's outputs to the next one's */
    const uint8_t *y_end; /* y + channels */
} qcc_armv6m_eight;

/** Form 3 is form 0 of sums that fit 16 bits with k: it is added before the pixels are told apart. */
#define QCC_ARMV6M_EIGHT_RECORD(form) (((form) == 3) ? 2 : QCC_ARMV6M_RECORD(form))

#if QCC_ARMV6M_ASM

/* Sums: r0 words, r1 weights, r2 to r5 a value of eight pixels, r6 digits; r8 to r11 the sums. */
#if QCC_ARMV6M_THUMB2
#define QCC_ARMV6M_EIGHT_MACS \
    "mla r8, r2, r6, r8\n\tmla r9, r3, r6, r9\n\tmla r10, r4, r6, r10\n\tmla r11, r5, r6, r11\n\t"
#else
#define QCC_ARMV6M_EIGHT_MACS \
    "muls r2, r6, r2\n\tadd r8, r2\n\tmuls r3, r6, r3\n\tadd r9, r3\n\t" \
    "muls r4, r6, r4\n\tadd r10, r4\n\tmuls r5, r6, r5\n\tadd r11, r5\n\t"
#endif
#define QCC_ARMV6M_EIGHT_LAST "ldmia r0!, {r2, r3, r4, r5}\n\t" QCC_ARMV6M_EIGHT_MACS
#define QCC_ARMV6M_EIGHT_NEXT(bits) QCC_ARMV6M_EIGHT_LAST "lsrs r6, r6, #" #bits "\n\t"
#define QCC_ARMV6M_EIGHT_THREE(bits) \
    QCC_ARMV6M_EIGHT_NEXT(bits) QCC_ARMV6M_EIGHT_NEXT(bits) QCC_ARMV6M_EIGHT_NEXT(bits)
#define QCC_ARMV6M_EIGHT_FOUR(bits) QCC_ARMV6M_EIGHT_THREE(bits) QCC_ARMV6M_EIGHT_NEXT(bits)
/* A word of weights. */
#define QCC_ARMV6M_EIGHT_DIGITS4 QCC_ARMV6M_EIGHT_FOUR(4) QCC_ARMV6M_EIGHT_THREE(4) QCC_ARMV6M_EIGHT_LAST
#define QCC_ARMV6M_EIGHT_DIGITS2 \
    QCC_ARMV6M_EIGHT_FOUR(2) QCC_ARMV6M_EIGHT_FOUR(2) QCC_ARMV6M_EIGHT_FOUR(2) \
    QCC_ARMV6M_EIGHT_THREE(2) QCC_ARMV6M_EIGHT_LAST

/* The two sums of a word t to r2 (second pixel) and r3. */
#define QCC_ARMV6M_EIGHT_APART(t) \
    "mov r2, " #t "\n\tsxth r3, r2\n\tsubs r2, r2, r3\n\tasrs r2, r2, #16\n\t"

/* Outputs of a channel, any form but 3: registers are loaded anew for each pair of pixels. */
#define QCC_ARMV6M_EIGHT_PAIR(t, form) \
    QCC_ARMV6M_EIGHT_APART(t) "ldr r0, [sp, #8]\n\t" form \
    "ldr r4, [sp, #4]\n\tldr r5, [sp]\n\t" QCC_ARMV6M_CLAMP(r2, 8) QCC_ARMV6M_CLAMP(r3, 9) \
    "ldr r7, [sp, #12]\n\tldr r1, [sp, #16]\n\tstrb r3, [r7]\n\tadds r7, r7, r1\n\t" \
    "strb r2, [r7]\n\tadds r7, r7, r1\n\tstr r7, [sp, #12]\n\t"
#define QCC_ARMV6M_EIGHT_OUT(form) \
    QCC_ARMV6M_EIGHT_PAIR(r8, form) QCC_ARMV6M_EIGHT_PAIR(r9, form) \
    QCC_ARMV6M_EIGHT_PAIR(r10, form) QCC_ARMV6M_EIGHT_PAIR(r11, form)
/* Form 3: r0 is the shift, r1 the step, r4 lo, r5 the range, r7 where the outputs go. */
#define QCC_ARMV6M_EIGHT_PAIR3(t) \
    QCC_ARMV6M_EIGHT_APART(t) "asrs r3, r0\n\tasrs r2, r0\n\t" \
    QCC_ARMV6M_CLAMP(r3, 8) "strb r3, [r7]\n\tadds r7, r7, r1\n\t" \
    QCC_ARMV6M_CLAMP(r2, 9) "strb r2, [r7]\n\tadds r7, r7, r1\n\t"
#define QCC_ARMV6M_EIGHT_OUT3 \
    "ldr r0, [sp, #8]\n\tldr r0, [r0, #4]\n\tldr r1, [sp, #16]\n\t" \
    "ldr r4, [sp, #4]\n\tldr r5, [sp]\n\tldr r7, [sp, #12]\n\t" \
    QCC_ARMV6M_EIGHT_PAIR3(r8) QCC_ARMV6M_EIGHT_PAIR3(r9) QCC_ARMV6M_EIGHT_PAIR3(r10) QCC_ARMV6M_EIGHT_PAIR3(r11)
#define QCC_ARMV6M_EIGHT_BEGIN3 \
    "ldr r6, [sp, #8]\n\tldr r6, [r6]\n\t" \
    "adds r2, r2, r6\n\tadds r3, r3, r6\n\tadds r4, r4, r6\n\tadds r5, r5, r6\n\t"

/* The stack: the second six members, then the first six. r7 may be a frame pointer, so it is kept
 * here instead of being declared as changed. */
#define QCC_ARMV6M_EIGHT(digits, again, begin, out, record) \
    ".syntax unified\n\t" \
    "push {r7}\n\t" \
    "ldmia r0!, {r2, r3, r4, r5, r6, r7}\n\tpush {r2, r3, r4, r5, r6, r7}\n\t" \
    "ldmia r0!, {r2, r3, r4, r5, r6, r7}\n\tpush {r2, r3, r4, r5, r6, r7}\n\t" \
    "movs r2, #1\n\tlsls r2, r2, #30\n\tmov lr, r2\n" \
    "1:\n\t" \
    "ldr r2, [sp, #28]\n\tmov r12, r2\n\tldr r0, [sp, #24]\n\tadd r2, sp, #32\n\tldmia r2, {r2, r3, r4, r5}\n\t" \
    begin \
    "mov r8, r2\n\tmov r9, r3\n\tmov r10, r4\n\tmov r11, r5\n" \
    "2:\n\t" \
    "ldmia r1!, {r6}\n\t" digits "cmp r0, r12\n\t" again \
    "mov r12, r1\n\t" out \
    "ldr r0, [sp, #8]\n\tadds r0, #" record "\n\tstr r0, [sp, #8]\n\t" \
    "lsls r1, r1, #3\n\tsubs r7, r7, r1\n\tadds r7, #1\n\tstr r7, [sp, #12]\n\t" \
    "mov r1, r12\n\tldr r2, [sp, #20]\n\tcmp r7, r2\n\tbeq 4f\n\tb 1b\n" \
    "4:\n\t" \
    "add sp, #48\n\tpop {r7}"

#define QCC_ARMV6M_EIGHT_RUN(digits, again, begin, out, record) \
    __asm__ volatile(QCC_ARMV6M_EIGHT(digits, again, begin, out, record) \
                     : "+r"(r0), "+r"(r1) \
                     : \
                     : "r2", "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory")
#define QCC_ARMV6M_EIGHT_FORMS(digits, again) \
    if (form == 0) { \
        QCC_ARMV6M_EIGHT_RUN(digits, again, "", QCC_ARMV6M_EIGHT_OUT(QCC_ARMV6M_FORM0), "8"); \
    } else if (form == 1) { \
        QCC_ARMV6M_EIGHT_RUN(digits, again, "", QCC_ARMV6M_EIGHT_OUT(QCC_ARMV6M_FORM1), "12"); \
    } else if (form == 2) { \
        QCC_ARMV6M_EIGHT_RUN(digits, again, "", QCC_ARMV6M_EIGHT_OUT(QCC_ARMV6M_FORM2("#4", "", "")), "16"); \
    } else { \
        QCC_ARMV6M_EIGHT_RUN(digits, again, QCC_ARMV6M_EIGHT_BEGIN3, QCC_ARMV6M_EIGHT_OUT3, "8"); \
    }

#endif

/**
 * All outputs of eight pixels.
 *
 * @param[in] p     the pixels
 * @param[in] w     [channels][values * bits / 32] digits
 * @param[in] bits  a constant, 4 or 2
 * @param[in] form  a constant: rescaling
 */
static inline void qcc_armv6m_eight_pixels(const qcc_armv6m_eight *p, const uint32_t *w, int32_t bits, int32_t form)
{
#if QCC_ARMV6M_ASM
    register const qcc_armv6m_eight *r0 __asm__("r0") = p;
    register const uint32_t *r1 __asm__("r1") = w;

    if (bits == 4) {
        QCC_ARMV6M_EIGHT_FORMS(QCC_ARMV6M_EIGHT_DIGITS4, "bne 2b\n\t")
    } else {
        QCC_ARMV6M_EIGHT_FORMS(QCC_ARMV6M_EIGHT_DIGITS2, "beq 3f\n\tb 2b\n3:\n\t") /* too far for bne */
    }
#else
    const int32_t *r = p->records;

    for (uint8_t *y = p->y; y != p->y_end; y++) {
        const uint32_t first = (form == 3) ? (uint32_t)r[0] : 0u;
        uint32_t t[QCC_ARMV6M_WORDS];

        for (int32_t j = 0; j < QCC_ARMV6M_WORDS; j++) {
            t[j] = p->start[j] + first;
        }
        for (const uint32_t *q = p->q; q != p->end; w++) {
            uint32_t v = *w;

            for (int32_t i = 0; i < (32 / bits); i++) {
                for (int32_t j = 0; j < QCC_ARMV6M_WORDS; j++) {
                    t[j] += q[j] * v;
                }
                q += QCC_ARMV6M_WORDS;
                v >>= bits;
            }
        }
        for (int32_t j = 0; j < QCC_ARMV6M_WORDS; j++) {
            const int32_t a = (int32_t)((t[j] & 0xFFFFu) ^ 0x8000u) - 0x8000;
            const int32_t b = (int32_t)(((t[j] - (uint32_t)a) >> 16) ^ 0x8000u) - 0x8000;
            const int32_t f = (form == 3) ? 0 : form;
            const int32_t record[4] = {(form == 3) ? 0 : r[0], r[1], (f > 0) ? r[2] : 0, (f > 1) ? r[3] : 0};

            y[2 * j * p->step] = (uint8_t)qcc_armv6m_rescale(f, (uint32_t)a, record, p->lo, p->lo + p->range);
            y[((2 * j) + 1) * p->step] = (uint8_t)qcc_armv6m_rescale(f, (uint32_t)b, record, p->lo, p->lo + p->range);
        }
        r += QCC_ARMV6M_EIGHT_RECORD(form);
    }
#endif
}

#endif /* QCC_ARMV6M_EIGHT_H */
