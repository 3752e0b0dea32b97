/**
 * @file qcc_dsp_avg_pool2d.h
 * @brief Mean of each window, NHWC, four channels at a time; DSP extension.
 *
 * A kernel template with the arguments of qcc_avg_pool2d.h; beside its macros QCC_SIGNED (1: QCC_X is
 * signed) and QCC_MANY (1: a window may have more than 255 values). Sums of four channels are two
 * words with two lanes of 16 bits each; after 255 values they move to words of 32 bits. The last four
 * channels may be some that are done already: c >= 4.
 */
#include "qcc_dsp_block.h"
#include "qcc_dsp_lanes.h"

#if QCC_SIGNED
#define QCC_EVEN qcc_sxtab16
#define QCC_ODD qcc_sxtab16_ror8
#define QCC_LOWER(v) qcc_dsp_low(v)
#define QCC_UPPER(v) qcc_dsp_high(v)
#else
#define QCC_EVEN qcc_uxtab16
#define QCC_ODD qcc_uxtab16_ror8
#define QCC_LOWER(v) ((int32_t)((v) & 0xFFFFu))
#define QCC_UPPER(v) ((int32_t)((v) >> 16))
#endif

#define QCC_FLUSH                 \
    sum0 += QCC_LOWER(even);      \
    sum1 += QCC_LOWER(odd);       \
    sum2 += QCC_UPPER(even);      \
    sum3 += QCC_UPPER(odd);
#define QCC_MEAN(sum) ((QCC_Y)QCC_RESCALE((sum), factor, right, lo, hi))

static QCC_DSP_KERNEL void QCC_FN(const QCC_X *x, const QCC_ACC *b, const int32_t *mult, const uint8_t *shift,
                                  const uint16_t *rows, const uint16_t *cols, QCC_Y *y, int32_t h, int32_t w, int32_t c,
                                  int32_t oh, int32_t ow, int32_t kh, int32_t kw, int32_t sh, int32_t sw, int32_t dh,
                                  int32_t dw, int32_t pt, int32_t pl, int32_t lo, int32_t hi)
{
    for (int32_t i = 0; i < oh; i++) {
        const int32_t top = (i * sh) - pt;
        int32_t u0 = 0;
        int32_t u1 = kh;

        while ((u0 < u1) && ((top + (u0 * dh)) < 0)) {
            u0++;
        }
        while ((u0 < u1) && ((top + ((u1 - 1) * dh)) >= h)) {
            u1--;
        }
        for (int32_t j = 0; j < ow; j++) {
            const int32_t left = (j * sw) - pl;
            const int32_t e = ((rows != NULL) && (cols != NULL)) ? ((int32_t)rows[i] + (int32_t)cols[j]) : 0;
            const int32_t bias = b[e];
            const int32_t factor = (mult != NULL) ? mult[e] : 1;
            const int32_t right = (int32_t)shift[e];
            int32_t v0 = 0;
            int32_t v1 = kw;
            const QCC_X *first;

            while ((v0 < v1) && ((left + (v0 * dw)) < 0)) {
                v0++;
            }
            while ((v0 < v1) && ((left + ((v1 - 1) * dw)) >= w)) {
                v1--;
            }
            first = &x[(((top + (u0 * dh)) * w) + left + (v0 * dw)) * c];
            for (int32_t g = 0; g < c; g += 4) {
                const int32_t k = ((g + 4) > c) ? (c - 4) : g;
                const QCC_X *line = &first[k];
                uint32_t even = 0;
                uint32_t odd = 0;
#if QCC_MANY
                int32_t sum0 = bias;
                int32_t sum1 = bias;
                int32_t sum2 = bias;
                int32_t sum3 = bias;
                int32_t room = 255; /* values that the lanes still take */
#endif

                for (int32_t u = u1 - u0; u > 0; u--) {
                    const QCC_X *at = line;

#if QCC_MANY
                    for (int32_t v = v1 - v0; v > 0; v--) {
                        if (room == 0) {
                            QCC_FLUSH
                            even = 0;
                            odd = 0;
                            room = 255;
                        }
                        room--;
#else
                    for (int32_t v = v1 - v0; v > 0; v--) {
#endif
                        const uint32_t four = qcc_dsp_load(at);

                        even = QCC_EVEN(even, four);
                        odd = QCC_ODD(odd, four);
                        at += dw * c;
                    }
                    line += dh * w * c;
                }
#if QCC_MANY
                QCC_FLUSH
                y[k] = QCC_MEAN(sum0);
                y[k + 1] = QCC_MEAN(sum1);
                y[k + 2] = QCC_MEAN(sum2);
                y[k + 3] = QCC_MEAN(sum3);
#else
                y[k] = QCC_MEAN(bias + QCC_LOWER(even));
                y[k + 1] = QCC_MEAN(bias + QCC_LOWER(odd));
                y[k + 2] = QCC_MEAN(bias + QCC_UPPER(even));
                y[k + 3] = QCC_MEAN(bias + QCC_UPPER(odd));
#endif
            }
            y += c;
        }
    }
}

#undef QCC_EVEN
#undef QCC_ODD
#undef QCC_FLUSH
#undef QCC_MEAN
#undef QCC_MANY
#undef QCC_LOWER
#undef QCC_UPPER
#undef QCC_FN
#undef QCC_X
#undef QCC_Y
#undef QCC_ACC
#undef QCC_RESCALE
#undef QCC_SIGNED
