/**
 * @file qcc_dsp_dense.h
 * @brief Fully connected layer of one row, 8 output channels at a time; DSP extension.
 *
 * A kernel template. QCC_FN, QCC_X (input type), QCC_SIGNED (1: it is signed), QCC_Y, and of
 * qcc_dsp_tile.h QCC_LO, QCC_HI, QCC_FORM, QCC_POST, QCC_NARROW, QCC_UP and QCC_BITS; beside those
 * QCC_GROUPS (of 4 inputs in an unrolled block), QCC_REST (groups left after the blocks), QCC_ONCE
 * (1: one block, no rest), QCC_ODD (1: inputs modulo 4 is not 0).
 *
 *   y[o] = rescale(b[o] + sum over k of x[k] * w[o][k])
 *
 * Four inputs are one load; UXTB16 makes the pairs (0, 2) and (1, 3) of them, which 8 channels share,
 * so no widened copy of the input is needed. The stream has, per 8 channels: 8 biases; per group
 * the weights of both pairs, two channels a word (one, if QCC_BITS is 16; four, if they are packed), as
 * qcc_dsp_block.h says; then two words of shifts (form 0), none (1) or 8 multipliers (2).
 *
 * @param[in]  x     [n]
 * @param[in]  w     stream
 * @param[out] y     [m]
 * @param[in]  n, m  inputs and outputs
 * @param[in]  words of the stream per 8 channels
 * @param[in]  span  inputs that whole blocks take
 */
#include "qcc_dsp_block.h"
#include "qcc_dsp_lift.h"

#ifndef QCC_DSP_DENSE_T
#define QCC_DSP_DENSE_T
typedef struct {
    const uint32_t *w;   /* 0: stream */
    void *y;             /* 4 */
    const uint32_t *end; /* 8: of the blocks of 8 channels */
    int32_t span;        /* 12: bytes of x that whole blocks take */
    const void *x;       /* 16 */
    uint32_t odd;        /* 20: the last 1 to 3 inputs */
    int32_t sum;         /* 24: what the offsets of packed weights add */
} qcc_dsp_dense_t;
#endif

#if QCC_DSP_ASM
#include "qcc_dsp_clip.h"

#if QCC_SIGNED
#define QCC_DSP_XTB16 "sxtb16"
#else
#define QCC_DSP_XTB16 "uxtb16"
#endif
#if QCC_BITS == 8
#define QCC_DSP_DUO(at, x, a, b)                                         \
    "ldr r7,[r10,#" at "]\n\tsxtb16 lr,r7\n\tsxtb16 r7,r7,ror #8\n\t"    \
    "smlad " a "," x ",lr," a "\n\tsmlad " b "," x ",r7," b "\n\t"
#define QCC_DSP_PAIR(at, x)                                                            \
    QCC_DSP_DUO(at, x, "r0", "r1") QCC_DSP_DUO(at "+4", x, "r2", "r3")                 \
    QCC_DSP_DUO(at "+8", x, "r4", "r5") QCC_DSP_DUO(at "+12", x, "r6", "r8")
#define QCC_DSP_EIGHT(i) QCC_DSP_PAIR("32*" #i, "r12") QCC_DSP_ODD_PAIR QCC_DSP_PAIR("32*" #i "+16", "r11")
#elif QCC_BITS == 16
#define QCC_DSP_DUO(at, x, a, b)                                         \
    "ldrd r7,lr,[r10,#" at "]\n\tsmlad " a "," x ",r7," a "\n\tsmlad " b "," x ",lr," b "\n\t"
#define QCC_DSP_PAIR(at, x)                                                            \
    QCC_DSP_DUO(at, x, "r0", "r1") QCC_DSP_DUO(at "+8", x, "r2", "r3")                 \
    QCC_DSP_DUO(at "+16", x, "r4", "r5") QCC_DSP_DUO(at "+24", x, "r6", "r8")
#define QCC_DSP_EIGHT(i) QCC_DSP_PAIR("64*" #i, "r12") QCC_DSP_ODD_PAIR QCC_DSP_PAIR("64*" #i "+32", "r11")
#else
#define QCC_DSP_ONE_OF(mask, x, a) "and lr,r7,#" mask "\n\tsmlad " a "," x ",lr," a "\n\t"
#if QCC_BITS == 4
#define QCC_DSP_LOW(x, a, b) QCC_DSP_ONE_OF("0x000F000F", x, a) QCC_DSP_ONE_OF("0x00F000F0", x, b)
#if QCC_SPLIT
#define QCC_DSP_HIGH(x, c, d) "lsr r7,r7,#8\n\t" QCC_DSP_LOW(x, c, d)
#else
#define QCC_DSP_HIGH(x, c, d) QCC_DSP_ONE_OF("0x0F000F00", x, c) QCC_DSP_ONE_OF("0xF000F000", x, d)
#endif
#define QCC_DSP_QUAD(at, x, a, b, c, d) "ldr r7,[r10,#" at "]\n\t" QCC_DSP_LOW(x, a, b) QCC_DSP_HIGH(x, c, d)
#define QCC_DSP_PAIR(at, x) \
    QCC_DSP_QUAD(at, x, "r0", "r1", "r2", "r3") QCC_DSP_QUAD(at "+4", x, "r4", "r5", "r6", "r8")
#define QCC_DSP_EIGHT(i) QCC_DSP_PAIR("16*" #i, "r12") QCC_DSP_ODD_PAIR QCC_DSP_PAIR("16*" #i "+8", "r11")
#else
#define QCC_DSP_QUAD(x, a, b, c, d)                                                        \
    QCC_DSP_ONE_OF("0x00030003", x, a) QCC_DSP_ONE_OF("0x000C000C", x, b)                  \
    QCC_DSP_ONE_OF("0x00300030", x, c) QCC_DSP_ONE_OF("0x00C000C0", x, d)
#define QCC_DSP_BOTH(at, a, b, c, d)                                                       \
    "ldr r7,[r10,#" at "]\n\t" QCC_DSP_QUAD("r12", a, b, c, d) "lsr r7,r7,#8\n\t"          \
    QCC_DSP_QUAD("r11", a, b, c, d)
#define QCC_DSP_EIGHT(i) \
    QCC_DSP_ODD_PAIR QCC_DSP_BOTH("8*" #i, "r0", "r1", "r2", "r3") QCC_DSP_BOTH("8*" #i "+4", "r4", "r5", "r6", "r8")
#endif
#endif
#if QCC_BITS < 8
#define QCC_DSP_OFF \
    "ldr r12,[r11,#24]\n\t" QCC_DSP_LESS("r0", "r1", "r2", "r3", "r12") QCC_DSP_LESS("r4", "r5", "r6", "r8", "r12")
#else
#define QCC_DSP_OFF ""
#endif
#define QCC_DSP_EVEN_PAIR QCC_DSP_XTB16 " r12,r11\n\t"
#define QCC_DSP_ODD_PAIR QCC_DSP_XTB16 " r11,r11,ror #8\n\t"
#define QCC_DSP_GROUP(i) "ldr r11,[r9,#4*" #i "]\n\t" QCC_DSP_EVEN_PAIR QCC_DSP_EIGHT(i)
#define QCC_DSP_ON(n) "add r10,r10,#" n "*4*" QCC_TEXT(QCC_BITS) "\n\t"

/* Stack: 0 the struct, 4 r7, 8 r9, 16 the end of the whole blocks. */
#if QCC_ONCE
#define QCC_DSP_SUMS QCC_REPEAT(QCC_GROUPS, QCC_DSP_GROUP) QCC_DSP_ON(QCC_TEXT(QCC_GROUPS))
#else
#define QCC_DSP_SUMS                                                                           \
    "ldr r11,[r11,#12]\n\tadd r11,r11,r9\n\tstr r11,[sp,#16]\n2:\n\t"                           \
    QCC_REPEAT(QCC_GROUPS, QCC_DSP_GROUP) "add r9,r9,#4*" QCC_TEXT(QCC_GROUPS) "\n\t"           \
    QCC_DSP_ON(QCC_TEXT(QCC_GROUPS)) "ldr r11,[sp,#16]\n\tcmp r9,r11\n\tbne 2b\n\t"
#endif
#if QCC_REST
#define QCC_DSP_REST QCC_REPEAT(QCC_REST, QCC_DSP_GROUP) QCC_DSP_ON(QCC_TEXT(QCC_REST))
#else
#define QCC_DSP_REST ""
#endif
#if QCC_ODD
#define QCC_DSP_LAST "ldr r11,[sp]\n\tldr r11,[r11,#20]\n\t" QCC_DSP_EVEN_PAIR QCC_DSP_EIGHT(0) QCC_DSP_ON("1")
#else
#define QCC_DSP_LAST ""
#endif
#if QCC_FORM == 0
#define QCC_DSP_FOUR(a, b, c, d)                                                                  \
    "ldr r11,[r10],#4\n\tasr " a "," a ",r11\n\tlsr r11,r11,#8\n\tasr " b "," b ",r11\n\t"         \
    "lsr r11,r11,#8\n\tasr " c "," c ",r11\n\tlsr r11,r11,#8\n\tasr " d "," d ",r11\n\t"
#define QCC_DSP_SHIFT QCC_DSP_FOUR("r0", "r1", "r2", "r3") QCC_DSP_FOUR("r4", "r5", "r6", "r8")
#else
#if QCC_FORM == 2
#define QCC_DSP_HALF(total) "mov r9,#1<<(" QCC_TEXT(QCC_POST) "-1+" QCC_TEXT(total) ")\n\t"
#if QCC_BITS < 8
#define QCC_DSP_OTHER_HALF(total) QCC_DSP_HALF(total)
#else
#define QCC_DSP_OTHER_HALF(total) ""
#endif
#define QCC_DSP_FOUR(a, b, c, d)                                                                  \
    "ldm r10!,{r7,r11,r12,lr}\n\tsmmla " a "," a ",r7,r9\n\t" QCC_DSP_OTHER_HALF(QCC_DSP_TOTAL1)      \
    "smmla " b "," b ",r11,r9\n\t" QCC_DSP_OTHER_HALF(QCC_DSP_TOTAL2) "smmla " c "," c ",r12,r9\n\t"  \
    QCC_DSP_OTHER_HALF(QCC_DSP_TOTAL3) "smmla " d "," d ",lr,r9\n\t"
#define QCC_DSP_TIMES                                                                             \
    QCC_DSP_HALF(QCC_DSP_TOTAL0) QCC_DSP_FOUR("r0", "r1", "r2", "r3")                              \
    QCC_DSP_OTHER_HALF(QCC_DSP_TOTAL0) QCC_DSP_FOUR("r4", "r5", "r6", "r8")
#else
#define QCC_DSP_TIMES ""
#endif
#if ((QCC_FORM == 1) && (QCC_POST == 0)) || QCC_DSP_BY_USAT
#define QCC_DSP_SHIFT QCC_DSP_TIMES
#else
#define QCC_DSP_SHIFT QCC_DSP_TIMES QCC_DSP_ALL4(QCC_DSP_DOWN)
#endif
#endif

/** The blocks of 8 channels from t->w to t->end. */
static inline void QCC_PASTE(QCC_FN, _blocks)(qcc_dsp_dense_t *dense)
{
    register qcc_dsp_dense_t *t __asm__("r0") = dense;

    __asm__ volatile("push {r0,r7,r9,r11,r12}\n\tldr r10,[r0]\n"
                     "1:\n\tldr r11,[sp]\n\tldr r9,[r11,#16]\n\tldm r10!,{r0-r6,r8}\n\t"
                     QCC_DSP_OFF QCC_DSP_SUMS QCC_DSP_REST QCC_DSP_LAST QCC_DSP_UP4 QCC_DSP_SHIFT QCC_DSP_PACK4
                     "ldr r12,[sp]\n\tldr r7,[r12,#4]\n\tstr r0,[r7],#4\n\tstr r4,[r7],#4\n\tstr r7,[r12,#4]\n\t"
                     "ldr r11,[r12,#8]\n\tcmp r10,r11\n\tbne 1b\n\t"
                     "str r10,[r12]\n\tpop {r0,r7,r9,r11,r12}"
                     : "+r"(t)
                     :
                     : "r1", "r2", "r3", "r4", "r5", "r6", "r8", "r10", "r11", "r12", "lr", "cc", "memory");
}

#include "qcc_dsp_clip_end.h"
#undef QCC_DSP_XTB16
#if QCC_BITS >= 8
#undef QCC_DSP_DUO
#else
#undef QCC_DSP_ONE_OF
#undef QCC_DSP_LOW
#undef QCC_DSP_HIGH
#undef QCC_DSP_QUAD
#undef QCC_DSP_BOTH
#endif
#undef QCC_DSP_OFF
#undef QCC_DSP_HALF
#undef QCC_DSP_OTHER_HALF
#undef QCC_DSP_PAIR
#undef QCC_DSP_EIGHT
#undef QCC_DSP_EVEN_PAIR
#undef QCC_DSP_ODD_PAIR
#undef QCC_DSP_GROUP
#undef QCC_DSP_ON
#undef QCC_DSP_SUMS
#undef QCC_DSP_REST
#undef QCC_DSP_LAST
#undef QCC_DSP_FOUR
#undef QCC_DSP_TIMES
#undef QCC_DSP_SHIFT

#else /* the same in C */

#if QCC_FORM == 0
#define QCC_DSP_OUT(acc, n) \
    qcc_clamp32(qcc_dsp_asr(QCC_DSP_RAISED((n) % 4, acc), w[(n) / 4] >> (8 * ((n) % 4))), QCC_LO, QCC_HI)
#elif QCC_FORM == 1
#define QCC_DSP_OUT(acc, n) qcc_clamp32(qcc_asr32((acc), QCC_POST + QCC_DSP_TOTAL((n) % 4)), QCC_LO, QCC_HI)
#else
#define QCC_DSP_OUT(acc, n)                                                                                  \
    qcc_clamp32(qcc_asr32(qcc_smmla((int32_t)1 << (QCC_POST - 1 + QCC_DSP_TOTAL((n) % 4)),                   \
                                    QCC_DSP_RAISED((n) % 4, acc), (int32_t)w[n]),                            \
                          QCC_POST + QCC_DSP_TOTAL((n) % 4)),                                                \
                QCC_LO, QCC_HI)
#endif

#if QCC_BITS < 8
/** A pair of inputs and the low fields of @p q, a word of four channels. */
static inline void QCC_PASTE(QCC_FN, _fields)(int32_t *acc, uint32_t pair, uint32_t q)
{
#if QCC_BITS == 4
    acc[0] = qcc_dsp_mac(acc[0], pair, q & 0x000F000Fu);
    acc[1] = qcc_dsp_mac(acc[1], pair, q & 0x00F000F0u);
#if QCC_SPLIT
    acc[2] = qcc_dsp_mac(acc[2], pair, (q >> 8) & 0x000F000Fu);
    acc[3] = qcc_dsp_mac(acc[3], pair, (q >> 8) & 0x00F000F0u);
#else
    acc[2] = qcc_dsp_mac(acc[2], pair, q & 0x0F000F00u);
    acc[3] = qcc_dsp_mac(acc[3], pair, q & 0xF000F000u);
#endif
#else
    acc[0] = qcc_dsp_mac(acc[0], pair, q & 0x00030003u);
    acc[1] = qcc_dsp_mac(acc[1], pair, q & 0x000C000Cu);
    acc[2] = qcc_dsp_mac(acc[2], pair, q & 0x00300030u);
    acc[3] = qcc_dsp_mac(acc[3], pair, q & 0x00C000C0u);
#endif
}

/** The weights of 8 channels for two pairs of inputs; where the next ones are. */
static inline const uint32_t *QCC_PASTE(QCC_FN, _pairs)(int32_t *acc, uint32_t even, uint32_t odd, const uint32_t *w)
{
    QCC_PASTE(QCC_FN, _fields)(acc, even, w[0]);
    QCC_PASTE(QCC_FN, _fields)(&acc[4], even, w[1]);
    QCC_PASTE(QCC_FN, _fields)(acc, odd, (QCC_BITS == 4) ? w[2] : (w[0] >> 8));
    QCC_PASTE(QCC_FN, _fields)(&acc[4], odd, (QCC_BITS == 4) ? w[3] : (w[1] >> 8));
    return &w[QCC_BITS];
}
#else
/** The weights of 8 channels, pair by pair; where the next ones are. */
static inline const uint32_t *QCC_PASTE(QCC_FN, _pair)(int32_t *acc, uint32_t pair, const uint32_t *w)
{
    for (int32_t c = 0; c < 8; c += 2) {
#if QCC_BITS == 8
        acc[c] = qcc_smlad(acc[c], pair, qcc_sxtb16(*w));
        acc[c + 1] = qcc_smlad(acc[c + 1], pair, qcc_sxtb16_ror8(*w));
        w++;
#else
        acc[c] = qcc_smlad(acc[c], pair, w[0]);
        acc[c + 1] = qcc_smlad(acc[c + 1], pair, w[1]);
        w += 2;
#endif
    }
    return w;
}

/** The weights of 8 channels for two pairs of inputs; where the next ones are. */
static inline const uint32_t *QCC_PASTE(QCC_FN, _pairs)(int32_t *acc, uint32_t even, uint32_t odd, const uint32_t *w)
{
    return QCC_PASTE(QCC_FN, _pair)(acc, odd, QCC_PASTE(QCC_FN, _pair)(acc, even, w));
}
#endif

static inline void QCC_PASTE(QCC_FN, _blocks)(qcc_dsp_dense_t *t)
{
    const uint32_t *w = t->w;
    QCC_Y *y = (QCC_Y *)t->y;

    while (w != t->end) {
        const uint8_t *x = (const uint8_t *)t->x;
        int32_t acc[8];

        for (int32_t c = 0; c < 8; c++) {
            acc[c] = (int32_t)*w++;
        }
#if QCC_BITS < 8
        for (int32_t c = 0; c < 8; c += 4) {
            QCC_DSP_OFFSETS(acc[c], acc[c + 1], acc[c + 2], acc[c + 3], t->sum);
        }
#endif
        for (int32_t k = (t->span / 4) + QCC_REST + QCC_ODD; k > 0; k--) {
            const uint32_t v = (QCC_ODD && (k == 1)) ? t->odd : qcc_dsp_load(x);

            const uint32_t even = QCC_SIGNED ? qcc_sxtb16(v) : qcc_uxtb16(v);
            const uint32_t odd = QCC_SIGNED ? qcc_sxtb16_ror8(v) : qcc_uxtb16_ror8(v);

            w = QCC_PASTE(QCC_FN, _pairs)(acc, even, odd, w);
            x += 4;
        }
        for (int32_t c = 0; c < 8; c++) {
            *y++ = (QCC_Y)QCC_DSP_OUT(acc[c], c);
        }
        w += (QCC_FORM == 0) ? 2 : ((QCC_FORM == 1) ? 0 : 8);
    }
    t->w = w;
    t->y = y;
}
#undef QCC_DSP_OUT

#endif

#if QCC_BITS < 8
/** The sum of @p n inputs. */
static inline int32_t QCC_PASTE(QCC_FN, _sum)(const QCC_X *x, int32_t n)
{
    int32_t sum = 0;

    for (; n >= 4; n -= 4) {
        const uint32_t v = qcc_dsp_load(x);

        if (QCC_SIGNED) {
            sum = qcc_smlad(qcc_smlad(sum, qcc_sxtb16(v), 0x00010001u), qcc_sxtb16_ror8(v), 0x00010001u);
        } else {
            sum = (int32_t)qcc_dsp_add_bytes((uint32_t)sum, v);
        }
        x += 4;
    }
    for (; n > 0; n--) {
        sum += *x;
        x++;
    }
    return sum;
}
#endif

static QCC_DSP_KERNEL void QCC_FN(const QCC_X *x, const uint32_t *w, QCC_Y *y, int32_t n, int32_t m, int32_t words,
                                  int32_t span)
{
    QCC_Y last[8];
    const int32_t whole = m / 8;
    qcc_dsp_dense_t t;

    t.w = w;
    t.x = x;
    t.span = span;
    t.odd = 0;
#if QCC_BITS < 8
    t.sum = QCC_PASTE(QCC_FN, _sum)(x, n) * (1 << (QCC_BITS - 1));
#endif
    for (int32_t k = n & ~3; k < n; k++) {
        t.odd |= ((uint32_t)x[k] & 0xFFu) << (8 * (k & 3));
    }
    for (int32_t part = (whole > 0) ? 0 : 1; part < (((m % 8) > 0) ? 2 : 1); part++) { /* whole blocks, then the rest */
        t.y = (part == 0) ? y : last;
        t.end = &w[(whole + part) * words];
        QCC_PASTE(QCC_FN, _blocks)(&t);
    }
    for (int32_t o = 0; o < (m % 8); o++) {
        y[(8 * whole) + o] = last[o];
    }
}

#if QCC_BITS < 8
#undef QCC_SPLIT
#endif
#undef QCC_FN
#undef QCC_X
#undef QCC_Y
#undef QCC_SIGNED
#undef QCC_LO
#undef QCC_HI
#undef QCC_FORM
#undef QCC_POST
#undef QCC_NARROW
#undef QCC_BITS
#undef QCC_UP
#undef QCC_GROUPS
#undef QCC_REST
#undef QCC_ONCE
#undef QCC_ODD
