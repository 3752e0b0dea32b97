/**
 * @file qcc_armv6m_forms.h
 * @brief ARMv6-M: two sums of products to two outputs, pieces of assembly.
 */
#ifndef QCC_ARMV6M_FORMS_H
#define QCC_ARMV6M_FORMS_H

#include "qcc_armv6m.h"

#if QCC_ARMV6M_ASM

/* The record at r0 rescales r2 and r3, r0 moves on; r4 to r6 change. */
#define QCC_ARMV6M_FORM0 \
    "ldmia r0!, {r4, r5}\n\tadds r2, r2, r4\n\tadds r3, r3, r4\n\tasrs r2, r5\n\tasrs r3, r5\n\t"
#define QCC_ARMV6M_FORM1 \
    "ldmia r0!, {r4, r5, r6}\n\tmuls r2, r6, r2\n\tmuls r3, r6, r3\n\t" \
    "adds r2, r2, r4\n\tadds r3, r3, r4\n\tasrs r2, r5\n\tasrs r3, r5\n\t"
/* qcc_armv6m_high and rounding of r2 and r3. On ARMv6-M r7 and r6 are the halves of the multiplier, r4
 * the rounding, lr is 2^30, and r0, r1 and r7 have to be kept; what is negative where nothing negative
 * comes out, lo at [sp, lo] being 0, stays as it is. */
#if QCC_ARMV6M_THUMB2
#define QCC_ARMV6M_FORM2(lo, save, restore) \
    "ldmia r0!, {r4, r5, r6}\n\tadds r2, r2, r4\n\tadds r3, r3, r4\n\tldmia r0!, {r4}\n\t" \
    "add r4, r4, #16384\n\tsmull lr, r2, r2, r6\n\tsmull lr, r3, r3, r6\n\t" \
    "add r2, r2, r4\n\tadd r3, r3, r4\n\tasrs r2, r5\n\tasrs r3, r5\n\t"
#else
#define QCC_ARMV6M_HIGH(v, lo, done) \
    "ldr r0, [sp, " lo "]\n\tmovs r1, " #v "\n\tbics r1, r0\n\tbmi " #done "f\n\t" \
    "uxth r0, " #v "\n\tasrs " #v ", " #v ", #16\n\tmovs r1, r0\n\tmuls r1, r7, r1\n\tlsrs r1, r1, #16\n\t" \
    "muls r0, r6, r0\n\tadds r1, r1, r0\n\tmovs r0, r7\n\tmuls r0, " #v ", r0\n\tadds r1, r1, r0\n\t" \
    "add r1, lr\n\tlsrs r1, r1, #16\n\tmuls " #v ", r6, " #v "\n\tadds " #v ", " #v ", r1\n\t" \
    "adds " #v ", " #v ", r4\n" #done ":\n\t"
#define QCC_ARMV6M_FORM2(lo, save, restore) \
    "ldmia r0!, {r4, r5, r6}\n\tadds r2, r2, r4\n\tadds r3, r3, r4\n\tldmia r0!, {r4}\n\t" \
    save "uxth r7, r6\n\tlsrs r6, r6, #16\n\t" \
    QCC_ARMV6M_HIGH(r2, lo, 20) QCC_ARMV6M_HIGH(r3, lo, 21) \
    restore "asrs r2, r5\n\tasrs r3, r5\n\t"
#endif
/* v saturated; r4 is lo, r5 the range. */
#define QCC_ARMV6M_CLAMP(v, done) \
    "subs r6, " #v ", r4\n\tcmp r6, r5\n\tbls " #done "f\n\t" \
    "cmp " #v ", r4\n\tmov " #v ", r4\n\tblt " #done "f\n\tadds " #v ", r4, r5\n" #done ":\n\t"

#endif

#endif /* QCC_ARMV6M_FORMS_H */
