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
 * Packed weights (QCC_BITS below 8) want the sum of each window's inputs. Columns have sums over the
 * ring's rows and the channels; before[j] is the sum of those left of column j, times 2^(bits-1). A
 * row that enters the ring adds to it, one that leaves is taken off.
 *
 * @param      lines   [QCC_KH][line] int16, 4-aligned; packed weights: then int32 before[columns + 1],
 *                     columns = ((ow rounded up to even) - 1) * QCC_STRIDE + QCC_COLUMNS
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

#if QCC_BITS < 8
#define QCC_DSP_CHANNELS (QCC_STEP / (2 * QCC_STRIDE))

/** The sums of @p line's columns, times the low (and the high) half of @p factor, enter @p before. */
static inline void QCC_PASTE(QCC_FN, _count)(int32_t *before, const int16_t *line, int32_t columns, uint32_t factor)
{
    int32_t sum = 0;

    for (int32_t j = 1; j <= columns; j++) {
        int32_t c = QCC_DSP_CHANNELS;

        for (; c >= 4; c -= 4) {
            sum = qcc_smlad(sum, qcc_dsp_load(line), factor);
            sum = qcc_smlad(sum, qcc_dsp_load(&line[2]), factor);
            line += 4;
        }
        for (; c > 0; c--) {
            sum += *line * qcc_dsp_low(factor);
            line++;
        }
        before[j] += sum;
    }
}
#endif

static QCC_DSP_KERNEL void QCC_FN(const QCC_X *x, const uint32_t *w, int32_t words, QCC_Y *y, void *lines, int32_t h,
                                  int32_t n, int32_t pitch, int32_t left, int32_t line, int32_t sh, int32_t pt,
                                  int32_t oh, int32_t ow, int32_t oc, int32_t span)
{
    qcc_dsp_tile_t tile;
    int16_t *row[QCC_KH];
    int32_t next = -pt; /* the input row that enters the ring next */
#if QCC_BITS < 8
    int32_t *const before = (int32_t *)(void *)&((int16_t *)lines)[QCC_KH * line];
    const int32_t columns = ((((ow + 1) & ~1) - 1) * QCC_STRIDE) + QCC_COLUMNS;
    const uint32_t half = 1u << (QCC_BITS - 1);

    (void)memset(before, 0, (size_t)(columns + 1) * sizeof *before);
#endif

    (void)memset(lines, 0, (size_t)(QCC_KH * line) * sizeof(int16_t));
    for (int32_t r = 0; r < QCC_KH; r++) {
        row[r] = &((int16_t *)lines)[r * line];
        QCC_PASTE(QCC_FN, _fill)(&row[r][left], x, next, h, pitch, n);
#if QCC_BITS < 8
        QCC_PASTE(QCC_FN, _count)(before, row[r], columns, qcc_dsp_pair(half, half));
#endif
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
#if QCC_BITS < 8
            tile.before = &before[(single != 0) ? ((ow - 1) * QCC_STRIDE) : 0];
#endif
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
#if QCC_BITS < 8
            QCC_PASTE(QCC_FN, _count)(before, first, columns, qcc_dsp_pair(0u - half, 0u - half));
#endif
            QCC_PASTE(QCC_FN, _fill)(&first[left], x, next, h, pitch, n);
#if QCC_BITS < 8
            QCC_PASTE(QCC_FN, _count)(before, first, columns, qcc_dsp_pair(half, half));
#endif
            next++;
        }
    }
}

#if QCC_BITS < 8
#undef QCC_DSP_CHANNELS
#undef QCC_SPLIT
#undef QCC_COLUMNS
#undef QCC_STRIDE
#endif
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
#undef QCC_UP
#undef QCC_KH
#undef QCC_STEP
#undef QCC_PAIRS
#undef QCC_REST
#undef QCC_ONCE
#undef QCC_TAIL
