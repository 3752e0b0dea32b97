/**
 * @file qcc_dsp_conv_lines.h
 * @brief Convolution with a few rows of the input held as 16-bit lines; DSP extension.
 *
 * A kernel template, see qcc_dsp_tile.h for the macros; beside those: QCC_X (input type), QCC_SIGNED
 * (1: QCC_X is signed), QCC_KH (rows of the kernel), QCC_STEP (bytes from pixel A to pixel B in a
 * line: 2 * stride * channels), QCC_FN.
 *
 * The rows of the window lie in a ring of QCC_KH lines with zeros to the left and right, so a window
 * is QCC_KH runs of neighbouring values: no im2col, no test for borders. An input row is read once,
 * before the outputs of the first window that needs it are written: the output may lie over rows
 * that have been read.
 *
 *   y[i][j][o] = rescale(b[o] + sum over u, k of line(i*sh + u - pt)[j*sw*c + k] * w[o][u][k])
 *
 * @param[in]  x       [h][width * c] values
 * @param[in]  w       stream, see qcc_dsp_tile.h; runs are zero-padded to even length
 * @param[out] y       [oh][ow][oc]
 * @param      lines   [QCC_KH][line] int16, 4-aligned
 * @param[in]  words   of the stream that blocks of 4 channels take
 * @param[in]  h       input rows
 * @param[in]  n       values of an input row that the windows reach, at most width * c
 * @param[in]  pitch   values of an input row
 * @param[in]  left    zeros before them
 * @param[in]  line    values of a line, even
 * @param[in]  sh, pt  vertical stride and padding
 * @param[in]  span    bytes of a run that blocks of QCC_PAIRS take
 */
#include "qcc_dsp_block.h"

#define QCC_RUNS QCC_KH
#define QCC_TWINS 0
#include "qcc_dsp_tile.h"

/** Row @p r of the input, @p n values of it, becomes a line; outside the input it is zeros. */
static inline void QCC_PASTE(QCC_FN, _fill)(int16_t *d, const QCC_X *x, int32_t r, int32_t h, int32_t pitch, int32_t n)
{
    if ((r < 0) || (r >= h)) {
        (void)memset(d, 0, (size_t)n * sizeof *d);
        return;
    }
    x += r * pitch;
    for (; n >= 4; n -= 4) {
        const uint32_t v = qcc_dsp_load(x);
        const uint32_t even = QCC_SIGNED ? qcc_sxtb16(v) : qcc_uxtb16(v);
        const uint32_t odd = QCC_SIGNED ? qcc_sxtb16_ror8(v) : qcc_uxtb16_ror8(v);

        qcc_dsp_store(d, qcc_pkhbt16(even, odd));
        qcc_dsp_store(&d[2], qcc_pkhtb16(odd, even));
        x += 4;
        d += 4;
    }
    for (; n > 0; n--) {
        *d = (int16_t)*x;
        x++;
        d++;
    }
}

static QCC_DSP_KERNEL void QCC_FN(const QCC_X *x, const uint32_t *w, int32_t words, QCC_Y *y, void *lines, int32_t h,
                                  int32_t n, int32_t pitch, int32_t left, int32_t line, int32_t sh, int32_t pt,
                                  int32_t oh, int32_t ow, int32_t oc, int32_t span)
{
    qcc_dsp_tile_t tile;
    int16_t *row[QCC_KH];
    int32_t next = -pt; /* the input row that enters the ring next */

    (void)memset(lines, 0, (size_t)(QCC_KH * line) * sizeof(int16_t));
    for (int32_t r = 0; r < QCC_KH; r++) {
        row[r] = &((int16_t *)lines)[r * line];
        QCC_PASTE(QCC_FN, _fill)(&row[r][left], x, next, h, pitch, n);
        next++;
    }
    tile.w = w;
    tile.end = &w[words];
    tile.span = span;
    tile.channels = oc;
    tile.step = 2 * QCC_STEP;
    tile.row[QCC_KH] = NULL;
    for (int32_t i = 0; i < oh; i++) {
        for (int32_t single = (ow > 1) ? 0 : 1; single < ((ow & 1) + 1); single++) { /* pairs, then a last pixel */
            tile.tiles = (single != 0) ? 1 : (ow / 2);
            tile.ya = (single != 0) ? &y[(ow - 1) * oc] : y;
            tile.yb = (single != 0) ? tile.ya : &y[oc];
            for (int32_t r = 0; r < QCC_KH; r++) {
                tile.row[r] = (const uint8_t *)row[r] + ((single != 0) ? ((ow - 1) * QCC_STEP) : 0);
            }
            QCC_PASTE(QCC_FN, _tiles)(&tile);
        }
        y += ow * oc;
        for (int32_t s = 0; (i < (oh - 1)) && (s < sh); s++) {
            int16_t *first = row[0];

            for (int32_t r = 0; r < (QCC_KH - 1); r++) {
                row[r] = row[r + 1];
            }
            row[QCC_KH - 1] = first;
            QCC_PASTE(QCC_FN, _fill)(&first[left], x, next, h, pitch, n);
            next++;
        }
    }
}

#undef QCC_RUNS
#undef QCC_TWINS
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
#undef QCC_KH
#undef QCC_STEP
#undef QCC_PAIRS
#undef QCC_REST
#undef QCC_ONCE
#undef QCC_TAIL
