/**
 * @file qcc_armv6m_pair.h
 * @brief ARMv6-M: all channels of two pixels of a convolution, given both windows.
 */
#ifndef QCC_ARMV6M_PAIR_H
#define QCC_ARMV6M_PAIR_H

#include "qcc_armv6m_forms.h"

/** Two pixels. The assembly knows the order of the members, two groups of six words. */
typedef struct {
    int32_t range;          /* outputs are lo to lo + range */
    const int32_t *records; /* per channel: k, shift | z << 8 | (number of q) << 16, see qcc_armv6m.h */
    uint8_t *y;             /* outputs of the first pixel */
    int32_t step;           /* from them to those of the second one; 0: both are the same pixel */
    int32_t channels;
    const uint8_t *far;    /* q of all channels: values from the one before it, q as int8_t */
    const uint16_t *whole; /* where the values end, all but the last 0 to 6 */
    const uint16_t *end;   /* where they end */
    const uint16_t *p;     /* values of both pixels in turn, an even number of pairs, aligned to 4 */
    uint32_t first;        /* sum of the first pixel's values */
    uint32_t second;
    int32_t lo;
} qcc_armv6m_pair;

#if QCC_ARMV6M_ASM

/* Sums: r0 words of activations, r1 weights, r2 and r3 two words, r4 and r5 products; T and H of the
 * four channels are r6 r7, r8 r9, r10 r11, r12 lr. */

/* ALONE: two values, each product added for itself: any weights. JOINED: two values whose products
 * together stay below 2^16. */
#if QCC_ARMV6M_THUMB2
#define QCC_ARMV6M_ALONE(o, t, h) \
    "ldrb r4, [r1, #" #o "]\n\tldrb r5, [r1, #" #o "+1]\n\tmul r4, r2, r4\n\tmul r5, r3, r5\n\t" \
    "add " #t ", " #t ", r4\n\tadd " #h ", " #h ", r4, lsr #16\n\t" \
    "add " #t ", " #t ", r5\n\tadd " #h ", " #h ", r5, lsr #16\n\t"
#define QCC_ARMV6M_JOINED(o, t, h) \
    "ldrb r4, [r1, #" #o "]\n\tldrb r5, [r1, #" #o "+1]\n\tmul r4, r2, r4\n\tmla r4, r3, r5, r4\n\t" \
    "add " #t ", " #t ", r4\n\tadd " #h ", " #h ", r4, lsr #16\n\t"
#else
#define QCC_ARMV6M_ALONE(o, t, h) \
    "ldrb r4, [r1, #" #o "]\n\tmuls r4, r2, r4\n\tadd " #t ", r4\n\tlsrs r4, r4, #16\n\tadd " #h ", r4\n\t" \
    "ldrb r4, [r1, #" #o "+1]\n\tmuls r4, r3, r4\n\tadd " #t ", r4\n\tlsrs r4, r4, #16\n\tadd " #h ", r4\n\t"
#define QCC_ARMV6M_JOINED(o, t, h) \
    "ldrb r4, [r1, #" #o "]\n\tldrb r5, [r1, #" #o "+1]\n\tmuls r4, r2, r4\n\tmuls r5, r3, r5\n\t" \
    "adds r4, r4, r5\n\tadd " #t ", r4\n\tlsrs r4, r4, #16\n\tadd " #h ", r4\n\t"
#endif
#define QCC_ARMV6M_TWO(step, o) \
    "ldmia r0!, {r2, r3}\n\t" step(o + 0, r6, r7) step(o + 2, r8, r9) step(o + 4, r10, r11) step(o + 6, r12, lr)

/* Outputs: r0 records, r1 sums, r2 and r3 the two sums of a channel, r7 outputs of the first pixel. */

/* The q of a channel, r6 of them. */
#define QCC_ARMV6M_FAR0
#define QCC_ARMV6M_FAR1 \
    "ldrh r6, [r0, #6]\n\tcmp r6, #0\n\tbeq 11f\n\t" \
    "mov r10, r0\n\tmov r11, r1\n\tldr r0, [sp, #76]\n\tldr r1, [sp, #40]\n" \
    "10:\n\t" \
    "ldrb r4, [r0]\n\tlsls r4, r4, #2\n\tadds r1, r1, r4\n\tldrb r4, [r0, #1]\n\tsxtb r4, r4\n\tadds r0, #2\n\t" \
    "ldrh r5, [r1]\n\tmuls r5, r4, r5\n\tadds r2, r2, r5\n\tldrh r5, [r1, #2]\n\tmuls r5, r4, r5\n\tadds r3, r3, r5\n\t" \
    "subs r6, #1\n\tbne 10b\n\t" \
    "str r0, [sp, #76]\n\tmov r0, r10\n\tmov r1, r11\n" \
    "11:\n\t"
/* Form 2 leaves nothing in r0, r1 and r7 but what is kept. */
#define QCC_ARMV6M_PAIR_FORM2 \
    QCC_ARMV6M_FORM2("#52", "mov r10, r0\n\tmov r11, r1\n\tmov r12, r7\n\t", \
                     "mov r0, r10\n\tmov r1, r11\n\tmov r7, r12\n\t")

/* The stack: eight sums, then the pair's second six members and its first six. r7 may be a frame
 * pointer, so it is kept here instead of being declared as changed. */
#define QCC_ARMV6M_PAIR(step, rest, form) \
    ".syntax unified\n\t" \
    "push {r7}\n\t" \
    "ldmia r0!, {r2, r3, r4, r5, r6, r7}\n\tpush {r2, r3, r4, r5, r6, r7}\n\t" \
    "ldmia r0!, {r2, r3, r4, r5, r6, r7}\n\tpush {r2, r3, r4, r5, r6, r7}\n\t" \
    "sub sp, #32\n" \
    "1:\n\t" \
    "ldr r0, [sp, #40]\n\tmovs r6, #0\n\tmovs r7, #0\n\tmov r8, r6\n\tmov r9, r6\n\t" \
    "mov r10, r6\n\tmov r11, r6\n\tmov r12, r6\n\tmov lr, r6\n" \
    "2:\n\t" \
    "ldr r4, [sp, #32]\n\tcmp r0, r4\n\tbne 3f\n\tb 4f\n" \
    "3:\n\t" \
    QCC_ARMV6M_TWO(step, 0) QCC_ARMV6M_TWO(step, 8) QCC_ARMV6M_TWO(step, 16) QCC_ARMV6M_TWO(step, 24) \
    "adds r1, #32\n\tb 2b\n" \
    "4:\n\t" \
    "ldr r4, [sp, #36]\n\tcmp r0, r4\n\tbeq 5f\n\t" \
    QCC_ARMV6M_TWO(step, 0) \
    "adds r1, #8\n\tb 4b\n" \
    "5:\n\t" \
    "mov r0, sp\n\tstmia r0!, {r6, r7}\n\t" \
    "mov r2, r8\n\tmov r3, r9\n\tmov r4, r10\n\tmov r5, r11\n\tmov r6, r12\n\tmov r7, lr\n\t" \
    "stmia r0!, {r2, r3, r4, r5, r6, r7}\n\t" \
    "mov r8, r1\n\tmovs r4, #1\n\tlsls r4, r4, #30\n\tmov lr, r4\n\t" \
    "ldr r6, [sp, #72]\n\tcmp r6, #4\n\tbls 6f\n\tmovs r6, #4\n" \
    "6:\n\t" \
    "lsls r6, r6, #3\n\tadd r6, sp\n\tmov r9, r6\n\t" \
    "ldr r0, [sp, #60]\n\tmov r1, sp\n\tldr r7, [sp, #64]\n" \
    "7:\n\t" \
    "ldmia r1!, {r2, r3}\n\tlsls r6, r3, #16\n\tsubs r2, r2, r6\n\tldrb r6, [r0, #5]\n\t" \
    "ldr r4, [sp, #44]\n\tmuls r4, r6, r4\n\tsubs r2, r2, r4\n\t" \
    "ldr r4, [sp, #48]\n\tmuls r4, r6, r4\n\tsubs r3, r3, r4\n\t" \
    rest form \
    "ldr r4, [sp, #52]\n\tldr r5, [sp, #56]\n\t" QCC_ARMV6M_CLAMP(r2, 8) QCC_ARMV6M_CLAMP(r3, 9) \
    "strb r2, [r7]\n\tldr r6, [sp, #68]\n\tstrb r3, [r7, r6]\n\tadds r7, #1\n\t" \
    "cmp r1, r9\n\tbne 7b\n\t" \
    "str r0, [sp, #60]\n\tstr r7, [sp, #64]\n\tmov r1, r8\n\t" \
    "ldr r6, [sp, #72]\n\tsubs r6, #4\n\tstr r6, [sp, #72]\n\tble 12f\n\tb 1b\n" \
    "12:\n\t" \
    "add sp, #80\n\tpop {r7}"

#define QCC_ARMV6M_RUN(step, rest, form) \
    __asm__ volatile(QCC_ARMV6M_PAIR(step, rest, form) \
                     : "+r"(r0), "+r"(r1) \
                     : \
                     : "r2", "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory")

#endif

/**
 * All outputs of two pixels.
 *
 * @param[in] pair    the pixels
 * @param[in] w       [ceil(channels / 4)][values / 2][4][2], the bytes u of two values of each channel
 * @param[in] joined  a constant: whether the products of those two together stay below 2^16
 * @param[in] form    a constant: rescaling, see qcc_armv6m.h
 */
static inline void qcc_armv6m_pixels(const qcc_armv6m_pair *pair, const uint8_t *w, int32_t joined, int32_t form)
{
#if QCC_ARMV6M_ASM
    register const qcc_armv6m_pair *r0 __asm__("r0") = pair;
    register const uint8_t *r1 __asm__("r1") = w;

    if ((joined != 0) && (form == 0)) {
        QCC_ARMV6M_RUN(QCC_ARMV6M_JOINED, QCC_ARMV6M_FAR1, QCC_ARMV6M_FORM0);
    } else if ((joined != 0) && (form == 1)) {
        QCC_ARMV6M_RUN(QCC_ARMV6M_JOINED, QCC_ARMV6M_FAR1, QCC_ARMV6M_FORM1);
    } else if (joined != 0) {
        QCC_ARMV6M_RUN(QCC_ARMV6M_JOINED, QCC_ARMV6M_FAR1, QCC_ARMV6M_PAIR_FORM2);
    } else if (form == 0) {
        QCC_ARMV6M_RUN(QCC_ARMV6M_ALONE, QCC_ARMV6M_FAR0, QCC_ARMV6M_FORM0);
    } else if (form == 1) {
        QCC_ARMV6M_RUN(QCC_ARMV6M_ALONE, QCC_ARMV6M_FAR0, QCC_ARMV6M_FORM1);
    } else {
        QCC_ARMV6M_RUN(QCC_ARMV6M_ALONE, QCC_ARMV6M_FAR0, QCC_ARMV6M_PAIR_FORM2);
    }
#else
    const int32_t *r = pair->records;
    const uint8_t *q = pair->far;
    const int32_t n = (int32_t)(pair->end - pair->p) / 2;

    for (int32_t c = 0; c < pair->channels; c++) {
        const uint8_t *u = &w[((c >> 2) * n * 4) + ((c & 3) * 2)];
        const uint16_t *p = pair->p;
        const uint32_t z = ((uint32_t)r[1] >> 8) & 0xFFu;
        uint32_t t = 0;
        uint32_t h = 0;

        for (int32_t k = 0; k < n; k += 2) {
            const uint32_t a = ((uint32_t)p[0] | ((uint32_t)p[1] << 16)) * u[0];
            const uint32_t b = ((uint32_t)p[2] | ((uint32_t)p[3] << 16)) * u[1];

            t += a + b;
            h += (joined != 0) ? ((a + b) >> 16) : ((a >> 16) + (b >> 16));
            p += 4;
            u += 8;
        }
        t = (t - (h << 16)) - (pair->first * z);
        h -= pair->second * z;
        p = pair->p;
        for (uint32_t count = (joined != 0) ? ((uint32_t)r[1] >> 16) : 0u; count > 0u; count--) {
            const uint32_t v = (uint32_t)(((int32_t)q[1] ^ 0x80) - 0x80);

            p += 2u * q[0];
            t += p[0] * v;
            h += p[1] * v;
            q += 2;
        }
        pair->y[c] = (uint8_t)qcc_armv6m_rescale(form, t, r, pair->lo, pair->lo + pair->range);
        pair->y[c + pair->step] = (uint8_t)qcc_armv6m_rescale(form, h, r, pair->lo, pair->lo + pair->range);
        r += QCC_ARMV6M_RECORD(form);
    }
#endif
}

#endif /* QCC_ARMV6M_PAIR_H */
