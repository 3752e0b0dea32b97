/**
 * @file qcc_dsp_winograd.h
 * @brief 3x3 convolution of stride 1 by Winograd's F(2x2, 3x3) in exact integers; DSP extension.
 *
 * A kernel template. QCC_FN, QCC_X, QCC_SIGNED (1: QCC_X is signed), QCC_Y, QCC_LO, QCC_HI, QCC_FORM
 * and QCC_POST as in qcc_dsp_tile.h (QCC_POST counts the factor 4 below), QCC_PAIRS, QCC_CHUNKS and
 * QCC_REST: of the input channel pairs, 1 + QCC_PAIRS * QCC_CHUNKS + QCC_REST.
 *
 * With B, G and A of Lavin and Gray (2016, "Fast algorithms for convolutional neural networks",
 * section 4.1), Y = A^T [(G g G^T) . (B^T d B)] A for each 4x4 part d of the input. G has halves; with
 * 2G everything is integer and the sum is exactly 4 Y, so biases are scaled by 4 and shifts grow by
 * 2. |B^T d B| <= 4 max|x| and |2G g 2G^T| <= 9 max|w| fit 16 bits. The compiler has bounded every
 * sum below 2^31. 16 products make 4 outputs: 4/9 of the multiplications.
 *
 * Two parts side by side (4 columns, 2 rows of outputs) go together.
 *
 * @param[in]  x       [h][w][c], c a multiple of 4
 * @param[in]  u       transformed weights [oc/4][16][c/2][4] pairs of 16 bits; of every 4 channels
 *                     the pairs (0, 2) and (1, 3)
 * @param[in]  b       4 * bias, [oc rounded up to 4]
 * @param[in]  r       shifts (form 0) or multipliers (form 2) per channel, [oc rounded up to 4]
 * @param[out] y       [oh][ow][oc]
 * @param      scratch V: 16 * c words; M: 128 words; a row of zeros: w * c bytes
 * @param[in]  pt, pl  padding
 */
#include "qcc_dsp_block.h"

#if QCC_FORM == 0
#define QCC_DSP_OUT(acc) qcc_clamp32(qcc_dsp_asr((acc), (uint32_t)rescale), QCC_LO, QCC_HI)
#elif QCC_FORM == 1
#define QCC_DSP_OUT(acc) qcc_clamp32(qcc_asr32((acc), QCC_POST), QCC_LO, QCC_HI)
#else
#define QCC_DSP_OUT(acc) \
    qcc_clamp32(qcc_asr32(qcc_smmla((int32_t)1 << (QCC_POST - 1), (acc), rescale), QCC_POST), QCC_LO, QCC_HI)
#endif

/** B^T of a column of 4 rows and 4 channels: t[0..3] channels 0 and 2, t[4..7] channels 1 and 3. */
static inline void QCC_PASTE(QCC_FN, _column)(const QCC_X *const *row, int32_t at, uint32_t *t)
{
    const uint32_t d0 = qcc_dsp_load(&row[0][at]);
    const uint32_t d1 = qcc_dsp_load(&row[1][at]);
    const uint32_t d2 = qcc_dsp_load(&row[2][at]);
    const uint32_t d3 = qcc_dsp_load(&row[3][at]);

    for (int32_t odd = 0; odd < 2; odd++) {
#if QCC_SIGNED
        const uint32_t e0 = odd ? qcc_sxtb16_ror8(d0) : qcc_sxtb16(d0);
        const uint32_t e1 = odd ? qcc_sxtb16_ror8(d1) : qcc_sxtb16(d1);
        const uint32_t e2 = odd ? qcc_sxtb16_ror8(d2) : qcc_sxtb16(d2);
        const uint32_t e3 = odd ? qcc_sxtb16_ror8(d3) : qcc_sxtb16(d3);
#else
        const uint32_t e0 = odd ? qcc_uxtb16_ror8(d0) : qcc_uxtb16(d0);
        const uint32_t e1 = odd ? qcc_uxtb16_ror8(d1) : qcc_uxtb16(d1);
        const uint32_t e2 = odd ? qcc_uxtb16_ror8(d2) : qcc_uxtb16(d2);
        const uint32_t e3 = odd ? qcc_uxtb16_ror8(d3) : qcc_uxtb16(d3);
#endif
        t[4 * odd] = qcc_ssub16(e0, e2);
        t[(4 * odd) + 1] = qcc_sadd16(e1, e2);
        t[(4 * odd) + 2] = qcc_ssub16(e2, e1);
        t[(4 * odd) + 3] = qcc_ssub16(e1, e3);
    }
}

/** V = B^T d B of the two parts whose first column is @p left, the pairs of both alternating. */
static inline void QCC_PASTE(QCC_FN, _inputs)(const QCC_X *const *row, int32_t left, int32_t w, int32_t c, uint32_t *v)
{
    const int32_t pairs = c / 2;
    uint32_t t[6][8];

    for (int32_t k = 0; k < c; k += 4) {
        for (int32_t j = 0; j < 6; j++) {
            if (((left + j) < 0) || ((left + j) >= w)) {
                (void)memset(t[j], 0, sizeof t[j]);
            } else {
                QCC_PASTE(QCC_FN, _column)(row, ((left + j) * c) + k, t[j]);
            }
        }
        for (int32_t p = 0; p < 8; p++) { /* pair p / 4, row p % 4 of V */
            uint32_t *d = &v[((4 * (p & 3) * pairs) + (k / 2) + (p >> 2)) * 2];

            d[0] = qcc_ssub16(t[0][p], t[2][p]);
            d[1] = qcc_ssub16(t[2][p], t[4][p]);
            d += 2 * pairs;
            d[0] = qcc_sadd16(t[1][p], t[2][p]);
            d[1] = qcc_sadd16(t[3][p], t[4][p]);
            d += 2 * pairs;
            d[0] = qcc_ssub16(t[2][p], t[1][p]);
            d[1] = qcc_ssub16(t[4][p], t[3][p]);
            d += 2 * pairs;
            d[0] = qcc_ssub16(t[1][p], t[3][p]);
            d[1] = qcc_ssub16(t[3][p], t[5][p]);
        }
    }
}

#if QCC_DSP_ASM
#define QCC_DSP_FIRST_TWO(at, a, b, c, d)                                                    \
    "ldrd r7,lr,[r10,#" at "]\n\tsmuad " a ",r11,r7\n\tsmuad " c ",r12,r7\n\t"               \
    "smuad " b ",r11,lr\n\tsmuad " d ",r12,lr\n\t"
#define QCC_DSP_ON(n) "add r9,r9,#8*" n "\n\tadd r10,r10,#16*" n "\n\t"
#if QCC_CHUNKS == 0
#define QCC_DSP_SUMS ""
#elif QCC_CHUNKS == 1
#define QCC_DSP_SUMS QCC_REPEAT(QCC_PAIRS, QCC_DSP_B4_TWINS16) QCC_DSP_ON(QCC_TEXT(QCC_PAIRS))
#else
#define QCC_DSP_SUMS                                                                             \
    "add r11,r9,#8*" QCC_TEXT(QCC_PAIRS) "*" QCC_TEXT(QCC_CHUNKS) "\n\tstr r11,[sp,#16]\n2:\n\t" \
    QCC_REPEAT(QCC_PAIRS, QCC_DSP_B4_TWINS16) QCC_DSP_ON(QCC_TEXT(QCC_PAIRS))                    \
    "ldr r11,[sp,#16]\n\tcmp r9,r11\n\tbne 2b\n\t"
#endif
#if QCC_REST
#define QCC_DSP_REST QCC_REPEAT(QCC_REST, QCC_DSP_B4_TWINS16) QCC_DSP_ON(QCC_TEXT(QCC_REST))
#else
#define QCC_DSP_REST ""
#endif

/** M[16][8] of 4 output channels: A's 4, then B's. */
static inline void QCC_PASTE(QCC_FN, _products)(int32_t *m, const uint32_t *v, const uint32_t *u, int32_t pairs)
{
    register int32_t *at __asm__("r0") = m;
    register const uint32_t *inputs __asm__("r1") = v;
    register const uint32_t *weights __asm__("r2") = u;

    (void)pairs;
    __asm__ volatile("push {r0,r7,r9,r11,r12}\n\tmov r9,r1\n\tmov r10,r2\n\tadd r11,r0,#512\n\tstr r11,[sp,#12]\n"
                     "1:\n\tldrd r11,r12,[r9],#8\n\t"
                     QCC_DSP_FIRST_TWO("0", "r0", "r1", "r4", "r5") QCC_DSP_FIRST_TWO("8", "r2", "r3", "r6", "r8")
                     "add r10,r10,#16\n\t" QCC_DSP_SUMS QCC_DSP_REST
                     "ldr r11,[sp]\n\tldr r12,[sp,#12]\n\tstm r11!,{r0-r6,r8}\n\tstr r11,[sp]\n\tcmp r11,r12\n\tbne 1b\n\t"
                     "pop {r0,r7,r9,r11,r12}"
                     : "+r"(at), "+r"(inputs), "+r"(weights)
                     :
                     : "r3", "r4", "r5", "r6", "r8", "r10", "r11", "r12", "lr", "cc", "memory");
}
#undef QCC_DSP_FIRST_TWO
#undef QCC_DSP_ON
#undef QCC_DSP_SUMS
#undef QCC_DSP_REST
#else
static inline void QCC_PASTE(QCC_FN, _products)(int32_t *m, const uint32_t *v, const uint32_t *u, int32_t pairs)
{
    for (int32_t i = 0; i < 16; i++) {
        for (int32_t q = 0; q < 8; q++) {
            m[q] = 0;
        }
        for (int32_t k = 0; k < pairs; k++) {
            for (int32_t q = 0; q < 8; q++) {
                m[q] = qcc_smlad(m[q], v[q / 4], u[q % 4]);
            }
            v += 2;
            u += 4;
        }
        m += 8;
    }
}
#endif

static QCC_DSP_KERNEL void QCC_FN(const QCC_X *x, const uint32_t *u, const int32_t *b, const int32_t *r, QCC_Y *y,
                                  void *scratch, int32_t h, int32_t w, int32_t c, int32_t pt, int32_t pl, int32_t oh,
                                  int32_t ow, int32_t oc)
{
    uint32_t *v = (uint32_t *)scratch;
    int32_t *m = (int32_t *)(void *)&v[16 * c];
    QCC_X *zeros = (QCC_X *)(void *)&m[128];

    (void)memset(zeros, 0, (size_t)(w * c));
    for (int32_t i = 0; i < oh; i += 2) {
        const QCC_X *row[4];

        for (int32_t k = 0; k < 4; k++) {
            const int32_t at = i + k - pt;

            row[k] = ((at < 0) || (at >= h)) ? zeros : &x[at * w * c];
        }
        for (int32_t j = 0; j < ow; j += 4) {
            const uint32_t *weights = u;

            QCC_PASTE(QCC_FN, _inputs)(row, j - pl, w, c, v);
            for (int32_t o = 0; o < oc; o += 4) {
                QCC_PASTE(QCC_FN, _products)(m, v, weights, c / 2);
                weights += 32 * c;
                for (int32_t q = 0; q < 8; q++) { /* channel q % 4 of part q / 4 */
                    const int32_t *p = &m[q];
                    const int32_t channel = o + (q & 3);
                    const int32_t bias = b[channel];
                    const int32_t p0 = p[0] + p[32] + p[64];
                    const int32_t p1 = p[8] + p[40] + p[72];
                    const int32_t p2 = p[16] + p[48] + p[80];
                    const int32_t p3 = p[24] + p[56] + p[88];
                    const int32_t n0 = p[32] - p[64] - p[96];
                    const int32_t n1 = p[40] - p[72] - p[104];
                    const int32_t n2 = p[48] - p[80] - p[112];
                    const int32_t n3 = p[56] - p[88] - p[120];
                    const int32_t rescale = r[channel];
                    const int32_t column = j + ((q >> 2) * 2);
                    QCC_Y *out = &y[(((i * ow) + column) * oc) + channel];

                    (void)rescale;
                    if ((channel < oc) && (column < ow)) {
                        const int32_t right = ((column + 1) < ow) ? oc : 0;

                        if (right != 0) {
                            out[right] = (QCC_Y)QCC_DSP_OUT(bias + p1 - p2 - p3);
                        }
                        out[0] = (QCC_Y)QCC_DSP_OUT(bias + p0 + p1 + p2);
                        if ((i + 1) < oh) {
                            out += ow * oc;
                            if (right != 0) {
                                out[right] = (QCC_Y)QCC_DSP_OUT(bias + n1 - n2 - n3);
                            }
                            out[0] = (QCC_Y)QCC_DSP_OUT(bias + n0 + n1 + n2);
                        }
                    }
                }
            }
        }
    }
}

#undef QCC_DSP_OUT
#undef QCC_FN
#undef QCC_X
#undef QCC_Y
#undef QCC_SIGNED
#undef QCC_LO
#undef QCC_HI
#undef QCC_FORM
#undef QCC_POST
#undef QCC_PAIRS
#undef QCC_CHUNKS
#undef QCC_REST
