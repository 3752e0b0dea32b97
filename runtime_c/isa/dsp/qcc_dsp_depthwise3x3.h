/**
 * @file qcc_dsp_depthwise3x3.h
 * @brief Depthwise convolution with 3x3 kernels, two outputs of a row at a time; DSP extension.
 *
 * A kernel template:
 *
 * QCC_X, QCC_Y     types; QCC_SIGNED 1: QCC_X is signed
 * QCC_FEW          1: fewer than 4 channels
 * QCC_SW           horizontal stride, 1 or 2
 * QCC_ROW          bytes of a row of the planes, see qcc_dsp_planes.h
 * QCC_DOWN         bytes from the window of one output row to that of the next: vertical stride * QCC_ROW
 * QCC_UNDER        bytes from one row of a window to the next: vertical dilation * QCC_ROW
 * QCC_STEP         bytes from an output to its right neighbour, 0: argument oc
 * QCC_PAIRS        pairs of neighbouring outputs that one unrolled block makes
 * QCC_REST         pairs of a row that are left after the blocks; QCC_ONCE 1: a row is one block
 * QCC_ODD          1: a row ends with a single output
 * QCC_FORM, QCC_POST, QCC_LO, QCC_HI   rescaling, see qcc_dsp_tile.h
 * QCC_FN           name
 *
 *   y[i][j][o] = rescale(b[o] + sum over u, v of x[i*sh + u*dh - pt][j*sw + v - pl][o / m] * w[o][u][v])
 *
 * A strip of the rows that `rows` output rows need is unpacked into planes with zeros around the
 * image, so there is no test for borders; rows that the next strip needs as well are moved up.
 * A 3x3 kernel is 6 words in registers; of two neighbouring outputs A and B
 *   A: {x0,x1}.{w0,w1} + x2*w2    B: x1*w0 + {x2,x3}.{w1,w2}
 * a row of the kernel is two loads and four multiplications.
 *
 * Groups of four channels are the outer loop: with one output per channel and strides >= 1, output i
 * replaces an input of its own channel that has been unpacked, so y may be x. If y begins below x and
 * overlaps it, x moves down to y first.
 *
 * Stream of words, per output: bias; QCC_FORM 2: multiplier; per row of the kernel its weights, one
 * byte each, padded to words; QCC_FORM 0: the very last byte is the shift (see dsp_depthwise.py).
 */
#include "qcc_dsp_planes.h"

#define QCC_WORDS ((QCC_FORM == 2) ? 5 : 4)

#if QCC_SW == 1
/* Outputs a and b of a row of the kernel {w0,w1}, {w1,w2}; the window of a begins at s + AT. */
#define QCC_DW_TWO(AT, P, Q)                                    \
    t = qcc_dsp_load(&s[AT]);                                   \
    u = qcc_dsp_load(&s[(AT) + QCC_DSP_WORD]);                  \
    a = qcc_smlad(a, t, P);                                     \
    b = qcc_smlatb(b, t, P);                                    \
    a = qcc_smlabt(a, u, Q);                                    \
    b = qcc_smlad(b, u, Q);
#else
/* The same two columns apart; Q is {w0,w2}. */
#define QCC_DW_TWO(AT, P, Q)                                    \
    t = qcc_dsp_load(&s[AT]);                                   \
    u = qcc_dsp_load(&s[(AT) + QCC_DSP_WORD]);                  \
    a = qcc_smlad(a, t, P);                                     \
    t = qcc_dsp_load(&s[(AT) + (2 * QCC_DSP_WORD)]);            \
    a = qcc_smlabt(a, u, Q);                                    \
    b = qcc_smlad(b, u, P);                                     \
    b = qcc_smlabt(b, t, Q);
#endif
#define QCC_DW_ONE(AT, P, Q)                                    \
    t = qcc_dsp_load(&s[AT]);                                   \
    u = qcc_dsp_load(&s[(AT) + QCC_DSP_WORD]);                  \
    a = qcc_smlad(a, t, P);                                     \
    a = qcc_smlabt(a, u, Q);

/* Pair i of a block. */
#define QCC_DW_AT(i) ((i) * QCC_SW * QCC_DSP_WORD)
#define QCC_DW_PAIR(i)                                          \
    {                                                           \
        int32_t a = bias;                                       \
        int32_t b = bias;                                       \
        uint32_t t;                                             \
        uint32_t u;                                             \
                                                                \
        QCC_DW_TWO(QCC_DW_AT(i), p0, q0)                        \
        QCC_DW_TWO(QCC_DW_AT(i) + QCC_UNDER, p1, q1)            \
        QCC_DW_TWO(QCC_DW_AT(i) + (2 * QCC_UNDER), p2, q2)      \
        y[(2 * (i)) * step] = QCC_DSP_OUTPUT(a);                    \
        y[((2 * (i)) + 1) * step] = QCC_DSP_OUTPUT(b);              \
    }
#define QCC_DW_MOVE(n)                                          \
    s += QCC_DW_AT(n);                                          \
    y += 2 * (n) * step;

/** @p rows rows of @p ow outputs of one channel; @p s: the first window; @p w: its words. */
static inline void QCC_PASTE(QCC_FN, _plane)(const uint8_t *s, const uint32_t *w, QCC_Y *y, int32_t ow, int32_t oc,
                                             int32_t chunks, int32_t rows, uint32_t *spare)
{
    const int32_t back = QCC_DOWN - (((ow / 2) * QCC_DW_AT(1))); /* from the last pair to the next row */
    const int32_t step = (QCC_STEP != 0) ? QCC_STEP : oc;
    const int32_t bias = (int32_t)w[0];
#if QCC_FORM == 2
    const uint32_t entry = *++w;
#elif QCC_FORM == 0
    const uint32_t entry = w[3] >> 24;
#endif
    const uint32_t e0 = qcc_sxtb16(w[1]); /* {w0,w2} */
    const uint32_t e1 = qcc_sxtb16(w[2]);
    const uint32_t e2 = qcc_sxtb16(w[3]);
    const uint32_t o0 = qcc_sxtb16_ror8(w[1]); /* {w1,..} */
    const uint32_t o1 = qcc_sxtb16_ror8(w[2]);
    const uint32_t o2 = qcc_sxtb16_ror8(w[3]);
    const uint32_t p0 = qcc_pkhbt16(e0, o0);
    const uint32_t p1 = qcc_pkhbt16(e1, o1);
    const uint32_t p2 = qcc_pkhbt16(e2, o2);
#if QCC_SW == 1
    const uint32_t q0 = qcc_dsp_merge(o0, e0);
    const uint32_t q1 = qcc_dsp_merge(o1, e1);
    const uint32_t q2 = qcc_dsp_merge(o2, e2);
#else
    const uint32_t q0 = e0;
    const uint32_t q1 = e1;
    const uint32_t q2 = e2;
#endif

    for (; rows > 0; rows--) {
#if QCC_ONCE
        QCC_REPEAT(QCC_PAIRS, QCC_DW_PAIR)
        QCC_DW_MOVE(QCC_PAIRS)
#elif QCC_PAIRS
        for (int32_t k = chunks; k > 0; k--) {
            QCC_REPEAT(QCC_PAIRS, QCC_DW_PAIR)
            QCC_DW_MOVE(QCC_PAIRS)
        }
#endif
#if QCC_REST
        QCC_REPEAT(QCC_REST, QCC_DW_PAIR)
        QCC_DW_MOVE(QCC_REST)
#endif
#if QCC_ODD
        {
            int32_t a = bias;
            uint32_t t;
            uint32_t u;

            QCC_DW_ONE(0, p0, q0)
            QCC_DW_ONE(QCC_UNDER, p1, q1)
            QCC_DW_ONE(2 * QCC_UNDER, p2, q2)
            *y = QCC_DSP_OUTPUT(a);
            y += step;
        }
#endif
        s += back;
    }
    (void)oc;
    (void)chunks;
    (void)spare;
}

#include "qcc_dsp_groups.h"

#undef QCC_DW_TWO
#undef QCC_DW_ONE
#undef QCC_DW_AT
#undef QCC_DW_PAIR
#undef QCC_DW_MOVE
#undef QCC_FN
#undef QCC_X
#undef QCC_Y
#undef QCC_SIGNED
#undef QCC_FEW
#undef QCC_SW
#undef QCC_ROW
#undef QCC_DOWN
#undef QCC_UNDER
#undef QCC_STEP
#undef QCC_PAIRS
#undef QCC_REST
#undef QCC_ONCE
#undef QCC_ODD
#undef QCC_FORM
#undef QCC_POST
#undef QCC_LO
#undef QCC_HI
#undef QCC_WORDS
