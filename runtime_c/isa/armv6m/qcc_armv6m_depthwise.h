/**
 * @file qcc_armv6m_depthwise.h
 * @brief Depthwise convolution, NHWC, one or more outputs per channel, two rows at a time: ARMv6-M.
 *
 * A kernel template: define QCC_FN (function name), QCC_FLIP (128 where x is signed, else 0) and
 * QCC_FORM (rescaling, see qcc_armv6m.h) and include it; it may be included again with other
 * definitions. The macros are undefined at its end.
 *
 * The output is made in strips of 2 * half rows, and a strip channel by channel. The rows of the
 * input that the strip needs of that channel go to scratch memory as lines of words: a line holds a
 * row, and in the high halves the one that the row's counterpart, half rows of outputs below, needs.
 * Taps go three at a time, as far as they lie side by side: such a triple's products, plus a constant
 * that makes their sums positive in both halves, stay below 2^16.
 *   y = rescale(sum of w * x)
 * The compiler has bounded the accumulator |sum + k| below 2^31. A strip's rows are read until its
 * last channel is done.
 *
 * @param[in]  x        [h][w][c], uint8_t or int8_t
 * @param[in]  wt       per output channel, row of the kernel and triple: N, w0, w1, w2, where N is the
 *                      sum of -w over negative w and the sum of all |w| at most 254; or 255 and two of
 *                      these, whose sum the triple is
 * @param[in]  k        [c * outs] records, see qcc_armv6m.h
 * @param[in]  g        geometry, see QCC_DEPTHWISE_*
 * @param[out] y        [oh][ow][c * outs], uint8_t or int8_t
 * @param[in]  scratch  lines, and a table of 40 * kh * triples bytes; aligned to 4
 */
#include "qcc_armv6m_lines.h"

static QCC_NOINLINE void QCC_FN(const void *x, const uint8_t *wt, const int32_t *k, const int16_t *g, void *y,
                                void *scratch, int32_t lo, int32_t hi)
{
    const int32_t oh = g[QCC_DEPTHWISE_OH];
    const int32_t ow = g[QCC_DEPTHWISE_OW];
    const int32_t all = g[QCC_DEPTHWISE_C] * g[QCC_DEPTHWISE_OUTS];
    const int32_t words = g[QCC_DEPTHWISE_LINES] * g[QCC_DEPTHWISE_PITCH];
    uint32_t *const table = (uint32_t *)scratch + words;
    uint16_t *const lines = (uint16_t *)scratch;
    const int32_t stride = g[QCC_DEPTHWISE_SH] * g[QCC_DEPTHWISE_PITCH];
    uint8_t *to = (uint8_t *)y;
    qcc_armv6m_part parts[2];
    qcc_armv6m_row row;

    for (int32_t i = 0; i < (2 * words); i++) {
        lines[i] = QCC_FLIP;
    }
    row.table = table;
    row.lo = lo;
    row.range = hi - lo;
    row.next = all;
    row.advance = 2 * g[QCC_DEPTHWISE_SW];
    for (int32_t i = 0; i < oh;) {
        const int32_t most = (oh - i) / 2 + ((oh - i) & 1);
        const int32_t half = (most < g[QCC_DEPTHWISE_HALF]) ? most : g[QCC_DEPTHWISE_HALF];
        const uint8_t *from = (const uint8_t *)x;
        const uint8_t *w = wt;
        const int32_t *r = k;
        uint8_t *out = to;

        qcc_armv6m_strip(parts, lines, g, i, half, QCC_FLIP);
        for (int32_t c = 0; c < g[QCC_DEPTHWISE_C]; c++) {
            for (int32_t two = 0; two < 2; two++) {
                if (parts[two].rows > 0) {
                    qcc_armv6m_plane(from, &parts[two], QCC_FLIP);
                }
            }
            for (int32_t o = 0; o < g[QCC_DEPTHWISE_OUTS]; o++) {
                row.records = r;
                w = qcc_armv6m_triples(w, g, &row, table);
                for (int32_t t = 0; t < half; t++) {
                    row.at = &lines[2 * t * stride];
                    row.end = row.at + (ow * row.advance);
                    row.y = &out[t * ow * all];
                    row.step = ((i + half + t) < oh) ? (half * ow * all) : 0;
                    qcc_armv6m_two_rows(&row, QCC_FORM);
                }
                r += QCC_ARMV6M_RECORD(QCC_FORM);
                out++;
            }
            from++;
        }
        to += 2 * half * ow * all;
        i += 2 * half;
    }
}

#undef QCC_FN
#undef QCC_FLIP
#undef QCC_FORM
