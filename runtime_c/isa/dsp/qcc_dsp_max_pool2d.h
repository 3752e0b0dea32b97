/**
 * @file qcc_dsp_max_pool2d.h
 * @brief Largest value of each window, NHWC, four channels at a time; DSP extension.
 *
 * A kernel template with the arguments of qcc_max_pool2d.h; beside its macros QCC_SIGNED (1: QCC_X is
 * signed). The last four channels may be some that are done already: c >= 4.
 */
#include "qcc_dsp_block.h"
#include "qcc_dsp_lanes.h"

#if QCC_SIGNED
#define QCC_LARGER qcc_smax8
#else
#define QCC_LARGER qcc_umax8
#endif

static QCC_DSP_KERNEL void QCC_FN(const QCC_X *x, QCC_X *y, int32_t h, int32_t w, int32_t c, int32_t oh, int32_t ow,
                                  int32_t kh, int32_t kw, int32_t sh, int32_t sw, int32_t dh, int32_t dw, int32_t pt,
                                  int32_t pl)
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
                uint32_t best = qcc_dsp_load(line);

                for (int32_t u = u0; u < u1; u++) {
                    const QCC_X *at = line;

                    for (int32_t v = v1 - v0; v > 0; v--) {
                        best = QCC_LARGER(best, qcc_dsp_load(at));
                        at += dw * c;
                    }
                    line += dh * w * c;
                }
                qcc_dsp_store(&y[k], best);
            }
            y += c;
        }
    }
}

#undef QCC_LARGER
#undef QCC_FN
#undef QCC_X
#undef QCC_SIGNED
