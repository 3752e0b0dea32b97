/**
 * @file qcc_armv6m_lines.h
 * @brief ARMv6-M: one channel of an image as lines of words, and its convolution: depthwise kernels.
 */
#ifndef QCC_ARMV6M_LINES_H
#define QCC_ARMV6M_LINES_H

#include "qcc_armv6m_forms.h"

/** The geometry table of a depthwise convolution, int16_t. */
enum {
    QCC_DEPTHWISE_H, /* of the input */
    QCC_DEPTHWISE_W,
    QCC_DEPTHWISE_C,
    QCC_DEPTHWISE_OH,
    QCC_DEPTHWISE_OW,
    QCC_DEPTHWISE_OUTS, /* output channels per input channel */
    QCC_DEPTHWISE_KH,
    QCC_DEPTHWISE_TRIPLES, /* in a row of the kernel */
    QCC_DEPTHWISE_ACROSS,  /* columns from one of them to the next */
    QCC_DEPTHWISE_SH,
    QCC_DEPTHWISE_SW,
    QCC_DEPTHWISE_DH,
    QCC_DEPTHWISE_PT,
    QCC_DEPTHWISE_PL,
    QCC_DEPTHWISE_HALF,  /* rows of half a strip */
    QCC_DEPTHWISE_LINES, /* that a strip needs, from the top of the first row's windows on */
    QCC_DEPTHWISE_PITCH, /* words of a line */
    QCC_DEPTHWISE_COLUMNS /* of the input that a line holds, after PL words of border */
};

/* What a table counts ways to the next window in: the assembly adds bytes to addresses. */
#if QCC_ARMV6M_ASM
#define QCC_ARMV6M_HALF_WORD 2
#else
#define QCC_ARMV6M_HALF_WORD 1
#endif

/** Two rows of outputs. The assembly knows the order of the members, two groups of six words. */
typedef struct {
    int32_t range;      /* outputs are lo to lo + range */
    int32_t step;       /* from an output of the first row to the second one's; 0: there is none */
    int32_t next;       /* from one output to the next */
    int32_t advance;    /* half-words from one window to the next */
    const uint16_t *at; /* first window */
    uint8_t *y;         /* outputs of the first row */
    const uint32_t *table;     /* triples: constant, three weights, way to the next one's window */
    const uint32_t *table_end; /* a table holds at least one triple */
    const uint16_t *end;       /* at + advance * number of outputs */
    uint32_t constants;        /* what the constants add up to, taken off */
    const int32_t *records;    /* one record, see qcc_armv6m.h */
    int32_t lo;
} qcc_armv6m_row;

/** Which bytes of a channel are the low halves, or the high ones, of a strip's lines. Seven words. */
typedef struct {
    int32_t at;      /* from the channel's first byte */
    int32_t rows;    /* inside the input, from line d on; 0: none */
    int32_t columns; /* at least 1 */
    int32_t step;    /* from one column to the next */
    int32_t gap;     /* from one row's end to the next one's beginning */
    int32_t skip;    /* bytes from one line's end to the next one's beginning */
    uint16_t *d;
} qcc_armv6m_part;

#if QCC_ARMV6M_ASM
/* r0 x, r1 d, r2 rows, r3 columns, r4 step, r5 a byte, r6 what is left of them; r8 and r9 gap and skip. */
#define QCC_ARMV6M_PICK(k, flip) "ldrb r5, [r0]\n\tadds r0, r0, r4\n\t" flip "strh r5, [r1, #4*" #k "]\n\t"
#define QCC_ARMV6M_PLANE(flip) \
    ".syntax unified\n\t" \
    "ldmia r1!, {r2, r3, r4, r5, r6}\n\tadds r0, r0, r2\n\tmov r8, r6\n\tmovs r2, r3\n\tmovs r3, r4\n\t" \
    "movs r4, r5\n\tldmia r1!, {r5, r6}\n\tmov r9, r5\n\tmovs r1, r6\n" \
    "1:\n\t" \
    "mov r6, r3\n\tsubs r6, #4\n\tbmi 3f\n" \
    "2:\n\t" \
    QCC_ARMV6M_PICK(0, flip) QCC_ARMV6M_PICK(1, flip) QCC_ARMV6M_PICK(2, flip) QCC_ARMV6M_PICK(3, flip) \
    "adds r1, #16\n\tsubs r6, #4\n\tbpl 2b\n" \
    "3:\n\t" \
    "adds r6, #4\n\tbeq 5f\n" \
    "4:\n\t" \
    QCC_ARMV6M_PICK(0, flip) \
    "adds r1, #4\n\tsubs r6, #1\n\tbne 4b\n" \
    "5:\n\t" \
    "add r0, r8\n\tadd r1, r9\n\tsubs r2, #1\n\tbne 1b"
#define QCC_ARMV6M_PLANE_RUN(flip) \
    __asm__ volatile(QCC_ARMV6M_PLANE(flip) \
                     : "+r"(r0), "+r"(r1) \
                     : \
                     : "r2", "r3", "r4", "r5", "r6", "r8", "r9", "cc", "memory")
#endif

/** A part of the lines, from the channel that begins at x; each byte plus @p flip (a constant) modulo 256. */
static inline void qcc_armv6m_plane(const uint8_t *x, const qcc_armv6m_part *part, uint32_t flip)
{
#if QCC_ARMV6M_ASM
    register const uint8_t *r0 __asm__("r0") = x;
    register const qcc_armv6m_part *r1 __asm__("r1") = part;

    if (flip == 0u) {
        QCC_ARMV6M_PLANE_RUN("");
    } else {
        QCC_ARMV6M_PLANE_RUN("adds r5, #128\n\tuxtb r5, r5\n\t");
    }
#else
    const int32_t pitch = part->columns + (part->skip / 4);

    x += part->at;
    for (int32_t row = 0; row < part->rows; row++) {
        for (int32_t k = 0; k < part->columns; k++) {
            part->d[2 * ((row * pitch) + k)] = (uint16_t)(x[k * part->step] ^ flip);
        }
        if (row < (part->rows - 1)) {
            x += (part->columns * part->step) + part->gap;
        }
    }
#endif
}

/**
 * The parts of a strip; what of their lines lies outside the input is made zero.
 *
 * @param[out] parts  low halves, high halves
 * @param[in]  lines  everything but borders to the left and right, which are zero
 * @param[in]  g      geometry
 * @param[in]  i      first row of outputs
 * @param[in]  half   rows of half the strip
 * @param[in]  flip   128 where x is signed, else 0
 */
static QCC_NOINLINE void qcc_armv6m_strip(qcc_armv6m_part *parts, uint16_t *lines, const int16_t *g, int32_t i,
                                          int32_t half, uint32_t flip)
{
    const int32_t h = g[QCC_DEPTHWISE_H];
    const int32_t c = g[QCC_DEPTHWISE_C];
    const int32_t n = g[QCC_DEPTHWISE_COLUMNS];
    const int32_t pitch = g[QCC_DEPTHWISE_PITCH];
    const int32_t count = ((half - 1) * g[QCC_DEPTHWISE_SH]) + ((g[QCC_DEPTHWISE_KH] - 1) * g[QCC_DEPTHWISE_DH]) + 1;
    int32_t row = (i * g[QCC_DEPTHWISE_SH]) - g[QCC_DEPTHWISE_PT];

    for (int32_t two = 0; two < 2; two++) {
        uint16_t *const d = &lines[(2 * g[QCC_DEPTHWISE_PL]) + two];
        qcc_armv6m_part *const part = &parts[two];

        part->rows = 0;
        part->columns = n;
        part->step = c;
        part->gap = (g[QCC_DEPTHWISE_W] - n) * c;
        part->skip = (pitch - n) * 4;
        for (int32_t l = 0; l < count; l++) {
            const int32_t at = row + l;

            if ((uint32_t)at >= (uint32_t)h) {
                for (int32_t k = 0; k < n; k++) {
                    d[2 * ((l * pitch) + k)] = (uint16_t)flip;
                }
            } else if (part->rows == 0) {
                part->at = at * g[QCC_DEPTHWISE_W] * c;
                part->d = &d[2 * l * pitch];
                part->rows = 1;
            } else {
                part->rows++;
            }
        }
        row += half * g[QCC_DEPTHWISE_SH];
    }
}

/** One triple to a table, with @p by to the next one's window; what follows w. */
static inline const uint8_t *qcc_armv6m_triple(const uint8_t *w, uint32_t *t, uint32_t by)
{
    t[0] = ((uint32_t)w[0] << 8) | ((uint32_t)w[0] << 24);
    t[1] = (uint32_t)(((int32_t)w[1] ^ 0x80) - 0x80);
    t[2] = (uint32_t)(((int32_t)w[2] ^ 0x80) - 0x80);
    t[3] = (uint32_t)(((int32_t)w[3] ^ 0x80) - 0x80);
    t[4] = by;
    return &w[4];
}

/**
 * The table of an output channel; row->table_end and row->constants tell of it.
 *
 * @return what follows w
 */
static QCC_NOINLINE const uint8_t *qcc_armv6m_triples(const uint8_t *w, const int16_t *g, qcc_armv6m_row *row,
                                                      uint32_t *table)
{
    const int32_t across = 2 * g[QCC_DEPTHWISE_ACROSS];
    const int32_t down = (2 * g[QCC_DEPTHWISE_DH] * g[QCC_DEPTHWISE_PITCH]) -
                         ((g[QCC_DEPTHWISE_TRIPLES] - 1) * across);
    uint32_t negative = 0;

    for (int32_t u = g[QCC_DEPTHWISE_KH]; u > 0; u--) {
        for (int32_t v = g[QCC_DEPTHWISE_TRIPLES]; v > 0; v--) {
            if (*w == 255u) {
                negative += w[1];
                w = qcc_armv6m_triple(&w[1], table, 0);
                table += 5;
            }
            negative += w[0];
            w = qcc_armv6m_triple(w, table, (uint32_t)((v > 1) ? across : down) * QCC_ARMV6M_HALF_WORD);
            table += 5;
        }
    }
    row->table_end = table;
    row->constants = negative << 8;
    return w;
}

#if QCC_ARMV6M_ASM

/* A triple to T and H. */
#if QCC_ARMV6M_THUMB2
#define QCC_ARMV6M_TRIPLE \
    "ldmia r0!, {r1, r2, r3, r4, r5}\n\t" \
    "ldr r7, [r6]\n\tmla r1, r7, r2, r1\n\tldr r7, [r6, #4]\n\tmla r1, r7, r3, r1\n\t" \
    "ldr r7, [r6, #8]\n\tmla r1, r7, r4, r1\n\tadds r6, r6, r5\n\tadd r8, r1\n\tadd r9, r9, r1, lsr #16\n\t"
#else
#define QCC_ARMV6M_TRIPLE \
    "ldmia r0!, {r1, r2, r3, r4, r5}\n\t" \
    "ldr r7, [r6]\n\tmuls r2, r7, r2\n\tadds r1, r1, r2\n\t" \
    "ldr r7, [r6, #4]\n\tmuls r3, r7, r3\n\tadds r1, r1, r3\n\t" \
    "ldr r7, [r6, #8]\n\tmuls r4, r7, r4\n\tadds r1, r1, r4\n\t" \
    "adds r6, r6, r5\n\tadd r8, r1\n\tlsrs r1, r1, #16\n\tadd r9, r1\n\t"
#endif

/* r0 table, r1 sum and constant, r2 to r4 weights, r5 way to the next window, r6 window, r7 a word of
 * it; r8 and r9 are T and H, r10 the table's end, r11 the window's beginning, r12 outputs, lr 2^30. */
#define QCC_ARMV6M_TWO_ROWS(form) \
    ".syntax unified\n\t" \
    "push {r7}\n\t" \
    "ldmia r0!, {r2, r3, r4, r5, r6, r7}\n\tpush {r2, r3, r4, r5, r6, r7}\n\t" \
    "ldmia r0!, {r2, r3, r4, r5, r6, r7}\n\tpush {r2, r3, r4, r5, r6, r7}\n\t" \
    "ldr r6, [sp, #40]\n\tldr r4, [sp, #44]\n\tmov r12, r4\n\tldr r4, [sp, #4]\n\tmov r10, r4\n\t" \
    "movs r4, #1\n\tlsls r4, r4, #30\n\tmov lr, r4\n\t" \
    "ldr r4, [sp, #36]\n\tlsls r4, r4, #1\n\tstr r4, [sp, #36]\n\t" \
    "ldr r4, [sp, #12]\n\trsbs r4, r4, #0\n\tstr r4, [sp, #12]\n\tlsls r5, r4, #16\n\tadds r4, r4, r5\n\tstr r4, [sp, #40]\n" \
    "1:\n\t" \
    "ldr r0, [sp]\n\tldr r4, [sp, #40]\n\tmov r8, r4\n\tldr r4, [sp, #12]\n\tmov r9, r4\n\tmov r11, r6\n" \
    "2:\n\t" \
    QCC_ARMV6M_TRIPLE "cmp r0, r10\n\tbne 2b\n\t" \
    "mov r2, r8\n\tmov r3, r9\n\tlsls r1, r3, #16\n\tsubs r2, r2, r1\n\tldr r0, [sp, #16]\n\t" \
    form \
    "ldr r4, [sp, #20]\n\tldr r5, [sp, #24]\n\t" QCC_ARMV6M_CLAMP(r2, 8) QCC_ARMV6M_CLAMP(r3, 9) \
    "mov r7, r12\n\tldr r6, [sp, #28]\n\tstrb r3, [r7, r6]\n\tstrb r2, [r7]\n\t" \
    "ldr r6, [sp, #32]\n\tadds r7, r7, r6\n\tmov r12, r7\n\t" \
    "mov r6, r11\n\tldr r4, [sp, #36]\n\tadds r6, r6, r4\n\tldr r4, [sp, #8]\n\tcmp r6, r4\n\tbeq 3f\n\tb 1b\n" \
    "3:\n\t" \
    "add sp, #48\n\tpop {r7}"

#define QCC_ARMV6M_TWO_ROWS_RUN(form) \
    __asm__ volatile(QCC_ARMV6M_TWO_ROWS(form) \
                     : "+r"(r0) \
                     : \
                     : "r1", "r2", "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory")

#endif

/** All outputs of two rows of a channel; @p form is a constant. */
static inline void qcc_armv6m_two_rows(const qcc_armv6m_row *row, int32_t form)
{
#if QCC_ARMV6M_ASM
    register const qcc_armv6m_row *r0 __asm__("r0") = row;

    if (form == 0) {
        QCC_ARMV6M_TWO_ROWS_RUN(QCC_ARMV6M_FORM0);
    } else if (form == 1) {
        QCC_ARMV6M_TWO_ROWS_RUN(QCC_ARMV6M_FORM1);
    } else {
        QCC_ARMV6M_TWO_ROWS_RUN(QCC_ARMV6M_FORM2("#20", "", ""));
    }
#else
    uint8_t *y = row->y;

    for (const uint16_t *at = row->at; at != row->end; at += row->advance) {
        const uint16_t *p = at;
        uint32_t first = 0u - row->constants;
        uint32_t second = first;

        for (const uint32_t *t = row->table; t != row->table_end; t += 5) {
            uint32_t sum = t[0];

            for (int32_t v = 0; v < 3; v++) {
                sum += ((uint32_t)p[2 * v] | ((uint32_t)p[(2 * v) + 1] << 16)) * t[1 + v];
            }
            first += sum & 0xFFFFu;
            second += sum >> 16;
            p += t[4];
        }
        y[row->step] = (uint8_t)qcc_armv6m_rescale(form, second, row->records, row->lo, row->lo + row->range);
        y[0] = (uint8_t)qcc_armv6m_rescale(form, first, row->records, row->lo, row->lo + row->range);
        y += row->next;
    }
#endif
}

#endif /* QCC_ARMV6M_LINES_H */
