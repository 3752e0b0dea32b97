/**
 * @file qcc_dsp_depthwise.h
 * @brief Depthwise convolution with any kernel, four outputs of a row at a time; DSP extension.
 *
 * A kernel template like qcc_dsp_depthwise3x3.h, whose macros it has but for the unrolling; beside
 * those: QCC_KH, QCC_KW, the kernel.
 *
 *   y[i][j][o] = rescale(b[o] + sum over u, v of x[i*sh + u*dh - pt][j*sw + v - pl][o / m] * w[o][u][v])
 *
 * The weights of a channel become pairs in memory after the planes, once a strip. At stride 1, word n
 * of the row of a plane is {x[2n], x[2n+1]}; outputs A and B, C and D share words of inputs:
 *   A: {x0,x1}.{w0,w1} + {x2,x3}.{w2,w3} + x4*w4    B: x1*w0 + {x2,x3}.{w1,w2} + {x4,x5}.{w3,w4}
 * and C, D the same one word later. At stride 2 all windows begin with a word.
 *
 * The planes' rows are wide enough for a multiple of four outputs.
 */
#include "qcc_dsp_planes.h"

#define QCC_BYTES (((QCC_KW / 4) + 1) * 4) /* of a row of weights, one more than it needs */
#define QCC_WORDS ((QCC_KH * QCC_BYTES / 4) + ((QCC_FORM == 2) ? 2 : 1))

/* Pairs of weights of a row of the kernel, in the order that they are used. */
#if QCC_SW == 1
#define QCC_MUCH ((QCC_KW > 1) ? ((QCC_KW / 2) + ((QCC_KW - 1) / 2)) : 1)
#else
#define QCC_MUCH ((QCC_KW + 1) / 2)
#endif

/** The weights of one channel as pairs: @p w, rows of QCC_BYTES, to @p d, rows of QCC_MUCH. */
static inline void QCC_PASTE(QCC_FN, _pairs)(uint32_t *d, const uint32_t *w)
{
    const int8_t *from = (const int8_t *)(const void *)w;

    for (int32_t u = 0; u < QCC_KH; u++) {
        for (int32_t i = 0; i < QCC_MUCH; i++) {
            const int32_t v = i * QCC_SW; /* stride 2: every other pair */

            *d = qcc_dsp_pair((uint32_t)from[v], ((v + 1) < QCC_KW) ? (uint32_t)from[v + 1] : 0u);
            d++;
        }
        from += QCC_BYTES;
    }
}

/** @p rows rows of @p ow outputs of one channel; @p s: the first window; @p w: its words. */
static inline void QCC_PASTE(QCC_FN, _plane)(const uint8_t *s, const uint32_t *w, QCC_Y *y, int32_t ow, int32_t oc,
                                             int32_t chunks, int32_t rows, uint32_t *spare)
{
    const int32_t bias = (int32_t)w[0];
#if QCC_FORM == 2
    const uint32_t entry = *++w;
#elif QCC_FORM == 0
    const uint32_t entry = w[QCC_WORDS - 1] >> 24;
#endif

    QCC_PASTE(QCC_FN, _pairs)(spare, &w[1]);
    for (; rows > 0; rows--) {
        const uint8_t *at = s;

        for (int32_t j = ow; j > 0; j -= 4) {
            const uint8_t *row = at;
            const uint32_t *p = spare;
            int32_t a0 = bias;
            int32_t a1 = bias;
            int32_t a2 = bias;
            int32_t a3 = bias;

            QCC_DSP_UNROLL
            for (int32_t u = 0; u < QCC_KH; u++) {
                uint32_t t0 = qcc_dsp_load(row);
                uint32_t t1 = qcc_dsp_load(&row[QCC_DSP_WORD]);
#if QCC_SW == 1
#if QCC_KW == 1
                a0 = qcc_smlabb(a0, t0, p[0]);
                a1 = qcc_smlatb(a1, t0, p[0]);
                a2 = qcc_smlabb(a2, t1, p[0]);
                a3 = qcc_smlatb(a3, t1, p[0]);
#else
                a1 = qcc_smlatb(a1, t0, p[0]);
                a3 = qcc_smlatb(a3, t1, p[0]);
                QCC_DSP_UNROLL
                for (int32_t n = 0; n < (QCC_KW / 2); n++) {
                    const uint32_t t2 = qcc_dsp_load(&row[(n + 2) * QCC_DSP_WORD]);

                    a0 = qcc_smlad(a0, t0, p[2 * n]);
                    a2 = qcc_smlad(a2, t1, p[2 * n]);
                    if (((2 * n) + 1) < QCC_MUCH) {
                        a1 = qcc_smlad(a1, t1, p[(2 * n) + 1]);
                        a3 = qcc_smlad(a3, t2, p[(2 * n) + 1]);
                    }
                    t0 = t1;
                    t1 = t2;
                }
#if (QCC_KW % 2) == 1
                a0 = qcc_smlabt(a0, t0, p[QCC_MUCH - 1]);
                a2 = qcc_smlabt(a2, t1, p[QCC_MUCH - 1]);
#else
                a1 = qcc_smlabt(a1, t0, p[QCC_MUCH - 1]);
                a3 = qcc_smlabt(a3, t1, p[QCC_MUCH - 1]);
#endif
#endif
#else
                uint32_t t2 = qcc_dsp_load(&row[2 * QCC_DSP_WORD]);

                QCC_DSP_UNROLL
                for (int32_t n = 0; n < QCC_MUCH; n++) {
                    const uint32_t t3 = qcc_dsp_load(&row[(n + 3) * QCC_DSP_WORD]);

                    a0 = qcc_smlad(a0, t0, p[n]);
                    a1 = qcc_smlad(a1, t1, p[n]);
                    a2 = qcc_smlad(a2, t2, p[n]);
                    a3 = qcc_smlad(a3, t3, p[n]);
                    t0 = t1;
                    t1 = t2;
                    t2 = t3;
                }
#endif
                row += QCC_UNDER;
                p += QCC_MUCH;
            }
            *y = QCC_DSP_OUTPUT(a0);
            y += oc;
            if (j > 1) {
                *y = QCC_DSP_OUTPUT(a1);
                y += oc;
            }
            if (j > 2) {
                *y = QCC_DSP_OUTPUT(a2);
                y += oc;
            }
            if (j > 3) {
                *y = QCC_DSP_OUTPUT(a3);
                y += oc;
            }
            at += 2 * QCC_SW * QCC_DSP_WORD;
        }
        s += QCC_DOWN;
    }
    (void)chunks;
}

#include "qcc_dsp_groups.h"

#undef QCC_BYTES
#undef QCC_WORDS
#undef QCC_MUCH
#undef QCC_FN
#undef QCC_X
#undef QCC_Y
#undef QCC_SIGNED
#undef QCC_FEW
#undef QCC_KH
#undef QCC_KW
#undef QCC_SW
#undef QCC_ROW
#undef QCC_DOWN
#undef QCC_UNDER
#undef QCC_FORM
#undef QCC_POST
#undef QCC_LO
#undef QCC_HI
