/**
 * @file qcc_dsp_tile.h
 * @brief All output channels of two pixels: what the DSP convolutions share.
 *
 * A part of a kernel template: it reads the macros of the kernel that includes it and leaves them
 * defined. It defines QCC_PASTE(QCC_FN, _tiles).
 *
 * QCC_Y            output type
 * QCC_LO, QCC_HI   clip
 * QCC_FORM         how an accumulator is rescaled: 0 by a shift per channel, 1 by the shift
 *                  QCC_POST (the rounding half is in the bias); 2 by a multiplier per channel m and
 *                  the shift p = 32 + QCC_POST: floor((acc * m + 2^(p-1)) / 2^p), which is
 *                  (floor(acc * m / 2^32) + 2^(p-33)) >> (p-32) for p >= 33; packed weights and
 *                  QCC_UP add to p
 * QCC_UP           bits by which accumulators are shifted up first: so much would be lacking of a
 *                  shift of 0 or more (form 0; shifts of the stream count it), of p = 33 (form 2)
 * QCC_NARROW       1: the shifted accumulators are proved to fit 16 bits
 * QCC_BITS         of the weights: 16, 8, 4 or 2; qcc_dsp_block.h says how they lie
 * QCC_SPLIT        below 8 bits; 1: "4S"
 * QCC_RUNS         runs of inputs of a window (rows of the kernel)
 * QCC_TWINS        1: pairs of pixel A and B alternate; 0: B lies QCC_STEP bytes after A
 * QCC_PAIRS        pairs of inputs (twos of pairs, if QCC_BITS is 2) that one unrolled block takes
 * QCC_REST         the same, of a run's rest after the blocks
 * QCC_ONCE         1: a run is one block and the rest, no loop
 * QCC_TAIL         output channels modulo 4
 *
 * QCC_COLUMNS      lines and below 8 bits: columns of the kernel
 * QCC_STRIDE       the same: columns from pixel A to B
 *
 * The stream of words, per 4 channels (the last ones may be 2 if QCC_BITS is 8 or 16): 4 biases; the
 * weights, run by run; then one word of 4 shifts (form 0), none (1) or 4 multipliers (2). Biases and
 * shifts of packed weights are those of lifted accumulators.
 */
#include "qcc_dsp_lift.h"

#if QCC_TWINS
#define QCC_DSP_PAIR_BYTES 8
#define QCC_DSP_PAIR_KIND TWINS
#else
#define QCC_DSP_PAIR_BYTES 4
#define QCC_DSP_PAIR_KIND LINES
#endif
#define QCC_DSP_UNIT_BYTES (QCC_DSP_UNIT_PAIRS * QCC_DSP_PAIR_BYTES)
/* TWOS: the last 1 or 2 channels are a block of two; PADDED: the last block of 4 has fewer outputs. */
#if (QCC_BITS >= 8) && ((QCC_TAIL == 1) || (QCC_TAIL == 2))
#define QCC_DSP_TWOS 1
#define QCC_DSP_PADDED 0
#else
#define QCC_DSP_TWOS 0
#define QCC_DSP_PADDED (QCC_TAIL > 0)
#endif

#if QCC_DSP_ASM

#define QCC_DSP_B4 QCC_PASTE(QCC_PASTE(QCC_DSP_B4_, QCC_DSP_PAIR_KIND), QCC_DSP_WEIGHTS)
#define QCC_DSP_B2 QCC_PASTE(QCC_PASTE(QCC_DSP_B2_, QCC_DSP_PAIR_KIND), QCC_BITS)

/* Stack: 0 the tile, 4 r7, 8 r9, 12 the run at hand, 16 the end of its whole blocks. */
#if QCC_RUNS > 1
#define QCC_DSP_FIRST "ldr r11,[sp]\n\tldr r9,[r11,#44]!\n\tstr r11,[sp,#12]\n\t"
#define QCC_DSP_SUMS_AT "-12"
#define QCC_DSP_NEXT "ldr r11,[sp,#12]\n\tldr r9,[r11,#4]!\n\tstr r11,[sp,#12]\n\tcmp r9,#0\n\tbne 2b\n\t"
#else
#define QCC_DSP_FIRST "ldr r11,[sp]\n\tldr r9,[r11,#44]\n\t"
#define QCC_DSP_SUMS_AT "32"
#define QCC_DSP_NEXT ""
#endif
#if QCC_ONCE
#define QCC_DSP_LOOP ""
#define QCC_DSP_AGAIN ""
#define QCC_DSP_MOVE ""
#else
#define QCC_DSP_LOOP "ldr r11,[sp]\n\tldr r11,[r11,#16]\n\tadd r11,r11,r9\n\tstr r11,[sp,#16]\n3:\n\t"
#define QCC_DSP_AGAIN "ldr r11,[sp,#16]\n\tcmp r9,r11\n\tbne 3b\n\t"
#define QCC_DSP_MOVE "add r9,r9,#" QCC_TEXT(QCC_PAIRS) "*" QCC_TEXT(QCC_DSP_UNIT_BYTES) "\n\t"
#endif
#define QCC_DSP_WEIGHT_BYTES(n) QCC_TEXT(n) "*4*" QCC_TEXT(QCC_DSP_UNIT_WORDS)
/* The accumulators of a block of 4 channels begin as its biases, less the offsets of packed weights. */
#if QCC_BITS < 8
#define QCC_DSP_BIASES4                                                                           \
    "ldrd r11,r12,[r11,#" QCC_DSP_SUMS_AT "]\n\tldm r10,{r0-r3}\n\tldm r10!,{r4-r6,r8}\n\t"     \
    QCC_DSP_LESS("r0", "r1", "r2", "r3", "r11") QCC_DSP_LESS("r4", "r5", "r6", "r8", "r12")
#else
#define QCC_DSP_BIASES4 "ldm r10,{r0-r3}\n\tldm r10!,{r4-r6,r8}\n\t"
#endif
#if QCC_REST && QCC_ONCE
#error "a run of one block has no rest"
#endif
#if QCC_REST
#define QCC_DSP_REST4 QCC_REPEAT(QCC_REST, QCC_DSP_B4) "add r10,r10,#" QCC_DSP_WEIGHT_BYTES(QCC_REST) "\n\t"
#define QCC_DSP_REST2 QCC_REPEAT(QCC_REST, QCC_DSP_B2) "add r10,r10,#" QCC_DSP_WEIGHT_BYTES(QCC_REST) "/2\n\t"
#else
#define QCC_DSP_REST4 ""
#define QCC_DSP_REST2 ""
#endif
#define QCC_DSP_SUMS4                                                                             \
    "2:\n\t" QCC_DSP_LOOP QCC_REPEAT(QCC_PAIRS, QCC_DSP_B4) QCC_DSP_MOVE                           \
    "add r10,r10,#" QCC_DSP_WEIGHT_BYTES(QCC_PAIRS) "\n\t" QCC_DSP_AGAIN QCC_DSP_REST4 QCC_DSP_NEXT
#define QCC_DSP_SUMS2                                                                             \
    "2:\n\t" QCC_DSP_LOOP QCC_REPEAT(QCC_PAIRS, QCC_DSP_B2) QCC_DSP_MOVE                           \
    "add r10,r10,#" QCC_DSP_WEIGHT_BYTES(QCC_PAIRS) "/2\n\t" QCC_DSP_AGAIN QCC_DSP_REST2 QCC_DSP_NEXT

#include "qcc_dsp_clip.h"

/* Rescaling, up to the shift by QCC_POST where USAT does it. */
#if QCC_FORM == 0
#define QCC_DSP_SHIFT4                                                                              \
    "ldr r11,[r10],#4\n\tasr r0,r0,r11\n\tasr r4,r4,r11\n\tlsr r11,r11,#8\n\tasr r1,r1,r11\n\t"     \
    "asr r5,r5,r11\n\tlsr r11,r11,#8\n\tasr r2,r2,r11\n\tasr r6,r6,r11\n\tlsr r11,r11,#8\n\t"       \
    "asr r3,r3,r11\n\tasr r8,r8,r11\n\t"
#define QCC_DSP_SHIFT2 \
    "ldr r11,[r10],#4\n\tasr r0,r0,r11\n\tasr r4,r4,r11\n\tlsr r11,r11,#8\n\tasr r1,r1,r11\n\tasr r5,r5,r11\n\t"
#else
#if QCC_FORM == 2
#define QCC_DSP_TIMES(r, m) "smmla " r "," r "," m ",r9\n\t"
#define QCC_DSP_HALF(total) "mov r9,#1<<(" QCC_TEXT(QCC_POST) "-1+" QCC_TEXT(total) ")\n\t"
#if QCC_BITS < 8
#define QCC_DSP_OTHER_HALF(total) QCC_DSP_HALF(total)
#else
#define QCC_DSP_OTHER_HALF(total) ""
#endif
#define QCC_DSP_MULTIPLY4                                                                      \
    "ldm r10!,{r7,r11,r12,lr}\n\t" QCC_DSP_HALF(QCC_DSP_TOTAL0)                                 \
    QCC_DSP_TIMES("r0", "r7") QCC_DSP_TIMES("r4", "r7") QCC_DSP_OTHER_HALF(QCC_DSP_TOTAL1)      \
    QCC_DSP_TIMES("r1", "r11") QCC_DSP_TIMES("r5", "r11") QCC_DSP_OTHER_HALF(QCC_DSP_TOTAL2)    \
    QCC_DSP_TIMES("r2", "r12") QCC_DSP_TIMES("r6", "r12") QCC_DSP_OTHER_HALF(QCC_DSP_TOTAL3)    \
    QCC_DSP_TIMES("r3", "lr") QCC_DSP_TIMES("r8", "lr")
#define QCC_DSP_MULTIPLY2                                                                      \
    "ldm r10!,{r7,r11}\n\t" QCC_DSP_HALF(QCC_DSP_TOTAL0)                                         \
    QCC_DSP_TIMES("r0", "r7") QCC_DSP_TIMES("r4", "r7") QCC_DSP_TIMES("r1", "r11") QCC_DSP_TIMES("r5", "r11")
#else
#define QCC_DSP_MULTIPLY4 ""
#define QCC_DSP_MULTIPLY2 ""
#endif
#if ((QCC_FORM == 1) && (QCC_POST == 0)) || QCC_DSP_BY_USAT
#define QCC_DSP_SHIFT4 QCC_DSP_MULTIPLY4
#define QCC_DSP_SHIFT2 QCC_DSP_MULTIPLY2
#else
#define QCC_DSP_SHIFT4 QCC_DSP_MULTIPLY4 QCC_DSP_ALL4(QCC_DSP_DOWN)
#define QCC_DSP_SHIFT2 QCC_DSP_MULTIPLY2 QCC_DSP_ALL2(QCC_DSP_DOWN)
#endif
#endif

/* B first: where there is no pixel B its outputs go where A's will. */
#define QCC_DSP_WORDS "str r4,[r9],#4\n\tstr r0,[r7],#4\n\t"
#if QCC_TAIL == 1
#define QCC_DSP_STORE2 "strb r4,[r9],#1\n\tstrb r0,[r7],#1\n\t"
#else
#define QCC_DSP_STORE2 "strh r4,[r9],#2\n\tstrh r0,[r7],#2\n\t"
#endif
#if QCC_TAIL == 3
#define QCC_DSP_STORE3                                                                      \
    QCC_DSP_STORE2 "lsr r4,r4,#16\n\tstrb r4,[r9],#1\n\tlsr r0,r0,#16\n\tstrb r0,[r7],#1\n"
#else
#define QCC_DSP_STORE3 QCC_DSP_STORE2
#endif
#if QCC_DSP_PADDED
#define QCC_DSP_STORE4                                                                      \
    "ldr r11,[r12,#12]\n\tcmp r10,r11\n\tbeq 4f\n\t" QCC_DSP_WORDS "b 5f\n4:\n\t"           \
    QCC_DSP_STORE3 "5:\n\t"
#else
#define QCC_DSP_STORE4 QCC_DSP_WORDS
#endif

#define QCC_DSP_CLOBBERED "r1", "r2", "r3", "r4", "r5", "r6", "r8", "r10", "r11", "r12", "lr", "cc", "memory"

#if QCC_DSP_TWOS
#define QCC_DSP_FOURS "ldr r11,[r11,#12]\n\tcmp r10,r11\n\tbeq 8f\n\t"
#define QCC_DSP_TAIL                                                                              \
    "8:\n\t" QCC_DSP_FIRST "ldrd r0,r1,[r10]\n\tldrd r4,r5,[r10],#8\n" QCC_DSP_SUMS2           \
    QCC_DSP_UP2 QCC_DSP_SHIFT2 QCC_DSP_PACK2 "ldr r12,[sp]\n\tldrd r7,r9,[r12,#4]\n\t" QCC_DSP_STORE2         \
    "strd r7,r9,[r12,#4]\n\t"
#else
#define QCC_DSP_FOURS ""
#define QCC_DSP_TAIL ""
#endif
#if QCC_TWINS /* the inputs of the next tile are copied first */
#define QCC_DSP_TILE_END ""
#else
#define QCC_DSP_ADVANCE(i) "ldr r11,[r12,#44+4*" #i "]\n\tadd r11,r11,r10\n\tstr r11,[r12,#44+4*" #i "]\n\t"
#define QCC_DSP_TILE_END                                                                          \
    "ldr r11,[r12,#20]\n\tsubs r11,r11,#1\n\tbeq 7f\n\tstr r11,[r12,#20]\n\tldr r10,[r12,#28]\n\t" \
    QCC_REPEAT(QCC_RUNS, QCC_DSP_ADVANCE)                                                         \
    "ldr r11,[r12,#24]\n\tldr r7,[r12,#8]\n\tadd r9,r7,r11\n\tstrd r7,r9,[r12,#4]\n\tb 6b\n7:\n\t"
#endif

#if (QCC_BITS < 8) && !QCC_TWINS /* t->sum from t->before, which moves on */
#define QCC_DSP_TILE_BEGIN                                                                        \
    "ldr r12,[r11,#40]\n\tldr r0,[r12]\n\tldr r1,[r12,#4*" QCC_TEXT(QCC_COLUMNS) "]\n\t"          \
    "ldr r2,[r12,#4*" QCC_TEXT(QCC_STRIDE) "]\n\t"                                               \
    "ldr r3,[r12,#4*" QCC_TEXT(QCC_STRIDE) "+4*" QCC_TEXT(QCC_COLUMNS) "]\n\t"                   \
    "sub r0,r1,r0\n\tsub r2,r3,r2\n\tstrd r0,r2,[r11,#32]\n\t"                                 \
    "add r12,r12,#8*" QCC_TEXT(QCC_STRIDE) "\n\tstr r12,[r11,#40]\n\t"
#else
#define QCC_DSP_TILE_BEGIN ""
#endif

/** The outputs of a row of tiles (of one, if QCC_TWINS): pixels A and B of the first in t. */
static inline void QCC_PASTE(QCC_FN, _tiles)(qcc_dsp_tile_t *tile)
{
    register qcc_dsp_tile_t *t __asm__("r0") = tile;

    __asm__ volatile("push {r0,r7,r9,r11,r12}\n"
                     "6:\n\tldr r11,[sp]\n\tldr r10,[r11]\n\t" QCC_DSP_TILE_BEGIN QCC_DSP_FOURS
                     "1:\n\t" QCC_DSP_FIRST QCC_DSP_BIASES4 QCC_DSP_SUMS4 QCC_DSP_UP4 QCC_DSP_SHIFT4 QCC_DSP_PACK4
                     "ldr r12,[sp]\n\tldrd r7,r9,[r12,#4]\n\t" QCC_DSP_STORE4
                     "strd r7,r9,[r12,#4]\n\tldr r11,[r12,#12]\n\tcmp r10,r11\n\tbne 1b\n\t"
                     QCC_DSP_TAIL QCC_DSP_TILE_END "pop {r0,r7,r9,r11,r12}"
                     : "+r"(t)
                     :
                     : QCC_DSP_CLOBBERED);
}

#include "qcc_dsp_clip_end.h"
#undef QCC_DSP_B4
#undef QCC_DSP_B2
#undef QCC_DSP_FIRST
#undef QCC_DSP_SUMS_AT
#undef QCC_DSP_WEIGHT_BYTES
#undef QCC_DSP_BIASES4
#undef QCC_DSP_NEXT
#undef QCC_DSP_LOOP
#undef QCC_DSP_AGAIN
#undef QCC_DSP_MOVE
#undef QCC_DSP_REST4
#undef QCC_DSP_REST2
#undef QCC_DSP_SUMS4
#undef QCC_DSP_SUMS2
#undef QCC_DSP_TIMES
#undef QCC_DSP_HALF
#undef QCC_DSP_OTHER_HALF
#undef QCC_DSP_MULTIPLY4
#undef QCC_DSP_MULTIPLY2
#undef QCC_DSP_SHIFT4
#undef QCC_DSP_SHIFT2
#undef QCC_DSP_WORDS
#undef QCC_DSP_STORE4
#undef QCC_DSP_STORE2
#undef QCC_DSP_STORE3
#undef QCC_DSP_TILE_BEGIN
#undef QCC_DSP_FOURS
#undef QCC_DSP_TAIL
#undef QCC_DSP_ADVANCE
#undef QCC_DSP_TILE_END
#undef QCC_DSP_CLOBBERED

#else /* the same in C */

#if QCC_FORM == 0
#define QCC_DSP_OUT(acc, n) qcc_clamp32(qcc_dsp_asr(QCC_DSP_RAISED(n, acc), shifts >> (8 * (n))), QCC_LO, QCC_HI)
#elif QCC_FORM == 1
#define QCC_DSP_OUT(acc, n) qcc_clamp32(qcc_asr32((acc), QCC_POST + QCC_DSP_TOTAL(n)), QCC_LO, QCC_HI)
#else
#define QCC_DSP_OUT(acc, n)                                                                            \
    qcc_clamp32(qcc_asr32(qcc_smmla((int32_t)1 << (QCC_POST - 1 + QCC_DSP_TOTAL(n)), QCC_DSP_RAISED(n, acc), \
                                    (int32_t)w[n]),                                                    \
                          QCC_POST + QCC_DSP_TOTAL(n)),                                                \
                QCC_LO, QCC_HI)
#endif
#if QCC_TWINS
#define QCC_DSP_APART 4
#else
#define QCC_DSP_APART QCC_STEP
#endif
#if (QCC_BITS < 8) && !QCC_TWINS /* the sums of both windows; then to the next tile's */
#define QCC_DSP_WINDOWS(t)                                                                  \
    do {                                                                                    \
        const int32_t *p_ = (t)->before;                                                    \
        (t)->sum[0] = p_[QCC_COLUMNS] - p_[0];                                              \
        (t)->sum[1] = p_[QCC_STRIDE + QCC_COLUMNS] - p_[QCC_STRIDE];                        \
        (t)->before = &p_[2 * QCC_STRIDE];                                                  \
    } while (0)
#else
#define QCC_DSP_WINDOWS(t) (void)0
#endif

/** The outputs of one tile. */
static inline void QCC_PASTE(QCC_FN, _tile)(const qcc_dsp_tile_t *t)
{
    const uint32_t *w = t->w;
    QCC_Y *ya = (QCC_Y *)t->ya;
    QCC_Y *yb = (QCC_Y *)t->yb;

    while (w != t->end) {
        int32_t a0 = (int32_t)w[0];
        int32_t a1 = (int32_t)w[1];
        int32_t a2 = (int32_t)w[2];
        int32_t a3 = (int32_t)w[3];
        int32_t b0 = a0;
        int32_t b1 = a1;
        int32_t b2 = a2;
        int32_t b3 = a3;

        w += 4;
#if QCC_BITS < 8
        QCC_DSP_OFFSETS(a0, a1, a2, a3, t->sum[0]);
        QCC_DSP_OFFSETS(b0, b1, b2, b3, t->sum[1]);
#endif
        for (int32_t r = 0; r < QCC_RUNS; r++) {
            const uint8_t *s = (const uint8_t *)t->row[r];
            const int32_t units = (t->span / QCC_DSP_UNIT_BYTES) + QCC_REST;

#if QCC_BITS < 8
            QCC_PASTE(QCC_DSP_EACH_, QCC_DSP_WEIGHTS)(units, s, QCC_DSP_PAIR_BYTES, QCC_DSP_APART, w)
#else
            QCC_DSP_EACH4(units, s, QCC_DSP_PAIR_BYTES, QCC_DSP_APART, w, QCC_BITS)
#endif
        }
        {
#if QCC_FORM == 0
            const uint32_t shifts = *w++;
#endif
            const int32_t real = (!QCC_DSP_PADDED || (&w[(QCC_FORM == 2) ? 4 : 0] != t->end)) ? 4 : QCC_TAIL;

            yb[0] = (QCC_Y)QCC_DSP_OUT(b0, 0);
            if (real > 1) {
                yb[1] = (QCC_Y)QCC_DSP_OUT(b1, 1);
            }
            if (real > 2) {
                yb[2] = (QCC_Y)QCC_DSP_OUT(b2, 2);
            }
            if (real > 3) {
                yb[3] = (QCC_Y)QCC_DSP_OUT(b3, 3);
            }
            ya[0] = (QCC_Y)QCC_DSP_OUT(a0, 0);
            if (real > 1) {
                ya[1] = (QCC_Y)QCC_DSP_OUT(a1, 1);
            }
            if (real > 2) {
                ya[2] = (QCC_Y)QCC_DSP_OUT(a2, 2);
            }
            if (real > 3) {
                ya[3] = (QCC_Y)QCC_DSP_OUT(a3, 3);
            }
#if QCC_FORM == 2
            w += 4;
#endif
        }
        ya += 4;
        yb += 4;
    }
#if QCC_DSP_TWOS
    {
        int32_t a0 = (int32_t)w[0];
        int32_t a1 = (int32_t)w[1];
        int32_t b0 = a0;
        int32_t b1 = a1;

        w += 2;
        for (int32_t r = 0; r < QCC_RUNS; r++) {
            const uint8_t *s = (const uint8_t *)t->row[r];
            const int32_t pairs = (t->span / QCC_DSP_PAIR_BYTES) + QCC_REST;

            QCC_DSP_EACH2(pairs, s, QCC_DSP_PAIR_BYTES, QCC_DSP_APART, w, QCC_BITS)
        }
        {
#if QCC_FORM == 0
            const uint32_t shifts = *w;
#endif
            yb[0] = (QCC_Y)QCC_DSP_OUT(b0, 0);
            ya[0] = (QCC_Y)QCC_DSP_OUT(a0, 0);
            if (QCC_TAIL == 2) {
                yb[1] = (QCC_Y)QCC_DSP_OUT(b1, 1);
                ya[1] = (QCC_Y)QCC_DSP_OUT(a1, 1);
            }
        }
    }
#endif
}

static inline void QCC_PASTE(QCC_FN, _tiles)(qcc_dsp_tile_t *t)
{
    QCC_DSP_WINDOWS(t);
    QCC_PASTE(QCC_FN, _tile)(t);
    while (t->tiles > 1) {
        for (int32_t r = 0; r < QCC_RUNS; r++) {
            t->row[r] = (const uint8_t *)t->row[r] + t->step;
        }
        t->ya = (uint8_t *)t->yb + t->channels;
        t->yb = (uint8_t *)t->ya + t->channels;
        t->tiles--;
        QCC_DSP_WINDOWS(t);
        QCC_PASTE(QCC_FN, _tile)(t);
    }
}

#undef QCC_DSP_OUT
#undef QCC_DSP_APART
#undef QCC_DSP_WINDOWS

#endif
#undef QCC_DSP_TWOS
#undef QCC_DSP_PADDED
#undef QCC_DSP_UNIT_BYTES
#undef QCC_DSP_PAIR_BYTES
#undef QCC_DSP_PAIR_KIND
