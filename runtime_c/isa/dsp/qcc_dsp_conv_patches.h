/**
 * @file qcc_dsp_conv_patches.h
 * @brief Convolution by patches: the windows of two pixels become 16-bit pairs; DSP extension.
 *
 * A kernel template, see qcc_dsp_tile.h for the macros; beside those: QCC_X (input type), QCC_SIGNED
 * (1: QCC_X is signed), QCC_INSIDE (1: every window lies inside the input), QCC_FN.
 *
 * A window is rows * runs runs of `run` neighbouring values: a row of the kernel is one run, or one
 * per tap if it is dilated. Runs are zero-padded to multiples of 4; of every 4 values the pairs are
 * (0, 2) and (1, 3), as UXTB16 makes them. The pairs of the two pixels alternate, so that one LDRD
 * reads both. A 1x1 convolution is one row, one run; so are the rows of a fully connected layer.
 *
 *   y[i][j][o] = rescale(b[o] + sum over u, v, k of
 *                        x[i*sh + u*dh - pt][j*sw + v*dw - pl][k] * w[o][u][v][k])
 *
 * @param[in]  x         [h][width][c]
 * @param[in]  w         stream, see qcc_dsp_tile.h, one run
 * @param[in]  words     of the stream that blocks of 4 channels take
 * @param[out] y         [oh][ow][oc]
 * @param      patch     pairs of two pixels, 8-aligned
 * @param[in]  rows, dh  rows of the kernel and their distance
 * @param[in]  runs, dw  runs of a row and their distance in pixels
 * @param[in]  run       values of a run
 * @param[in]  sh, sw    strides; @p pt, @p pl padding
 * @param[in]  span      bytes of the pairs that blocks of QCC_PAIRS take
 */
#include "qcc_dsp_block.h"

#define QCC_RUNS 1
#define QCC_TWINS 1
#include "qcc_dsp_tile.h"

/* Packed weights want the sum of the values of a patch. */
#define QCC_DSP_SUMMED (QCC_BITS < 8)

/**
 * @p n values as pairs in every other word of @p d; where the next pair goes. Adds them to @p sum,
 * if weights are packed.
 */
static inline uint32_t *QCC_PASTE(QCC_FN, _run)(uint32_t *d, const QCC_X *x, int32_t n, int32_t *sum)
{
    for (; n >= 4; n -= 4) {
        const uint32_t v = qcc_dsp_load(x);

        d[0] = QCC_SIGNED ? qcc_sxtb16(v) : qcc_uxtb16(v);
        d[2] = QCC_SIGNED ? qcc_sxtb16_ror8(v) : qcc_uxtb16_ror8(v);
        if (QCC_DSP_SUMMED && QCC_SIGNED) {
            *sum = qcc_smlad(qcc_smlad(*sum, d[0], 0x00010001u), d[2], 0x00010001u);
        } else if (QCC_DSP_SUMMED) {
            *sum = (int32_t)qcc_dsp_add_bytes((uint32_t)*sum, v);
        }
        x += 4;
        d += 4;
    }
    if (n > 0) {
        d[0] = qcc_dsp_pair((uint32_t)x[0], (n > 2) ? (uint32_t)x[2] : 0u);
        d[2] = (n > 1) ? ((uint32_t)x[1] & 0xFFFFu) : 0u;
        if (QCC_DSP_SUMMED) {
            *sum = qcc_smlad(qcc_smlad(*sum, d[0], 0x00010001u), d[2], 0x00010001u);
        }
        d += 4;
    }
    return d;
}

/** The same where only values lo..hi of the run are inside the input; x is value lo. */
static inline uint32_t *QCC_PASTE(QCC_FN, _edge)(uint32_t *d, const QCC_X *x, int32_t n, int32_t lo, int32_t hi,
                                                 int32_t *sum)
{
    for (int32_t k = 0; k < n; k += 4) {
        d[k] = 0;
        d[k + 2] = 0;
    }
    for (int32_t k = lo; k < hi; k++) {
        d[(k & ~3) + ((k & 1) * 2)] |= ((uint32_t)*x & 0xFFFFu) << ((k & 2) * 8);
        if (QCC_DSP_SUMMED) {
            *sum += *x;
        }
        x++;
    }
    return &d[(n + 3) & ~3];
}

static QCC_DSP_KERNEL void QCC_FN(const QCC_X *x, const uint32_t *w, int32_t words, QCC_Y *y, void *patch, int32_t h, int32_t width,
                                  int32_t c, int32_t rows, int32_t dh, int32_t runs, int32_t dw, int32_t run,
                                  int32_t sh, int32_t sw, int32_t pt, int32_t pl, int32_t oh, int32_t ow, int32_t oc,
                                  int32_t span)
{
    qcc_dsp_tile_t tile;

    tile.w = w;
    tile.end = &w[words];
    tile.tiles = 1;
    tile.channels = oc;
    tile.step = 0;
    tile.span = span;
    tile.row[0] = patch;
    tile.row[1] = NULL;
    for (int32_t i = 0; i < oh; i++) {
        for (int32_t j = 0; j < ow; j += 2) {
            const int32_t last = (j == (ow - 1)) ? 1 : 0;

            for (int32_t p = 0; p < 2; p++) { /* a last single pixel is taken twice */
                uint32_t *d = &((uint32_t *)patch)[p];
                int32_t sum = 0;

                for (int32_t u = 0; u < rows; u++) {
                    const int32_t top = (i * sh) + (u * dh) - pt;
                    int32_t at = ((j + (p & ~last)) * sw) - pl;

                    for (int32_t v = 0; v < runs; v++) {
#if QCC_INSIDE
                        d = QCC_PASTE(QCC_FN, _run)(d, &x[((top * width) + at) * c], run, &sum);
#else
                        const int32_t room = (width - at) * c; /* values up to the right border */
                        const int32_t lo = (at < 0) ? (-at * c) : 0;
                        const int32_t hi = (run < room) ? run : room;

                        if ((top < 0) || (top >= h) || (lo >= hi)) {
                            d = QCC_PASTE(QCC_FN, _edge)(d, x, run, 0, 0, &sum);
                        } else if ((lo > 0) || (hi < run)) {
                            d = QCC_PASTE(QCC_FN, _edge)(d, &x[(((top * width) + at) * c) + lo], run, lo, hi, &sum);
                        } else {
                            d = QCC_PASTE(QCC_FN, _run)(d, &x[((top * width) + at) * c], run, &sum);
                        }
#endif
                        at += dw;
                    }
                }
                if (QCC_DSP_SUMMED) {
                    tile.sum[p] = sum * (1 << (QCC_BITS - 1));
                }
            }
            tile.ya = y;
            tile.yb = (last != 0) ? y : &y[oc];
            QCC_PASTE(QCC_FN, _tiles)(&tile);
            y += (2 - last) * oc;
        }
    }
    (void)h;
}

#if QCC_BITS < 8
#undef QCC_SPLIT
#endif
#undef QCC_DSP_SUMMED
#undef QCC_RUNS
#undef QCC_TWINS
#undef QCC_FN
#undef QCC_X
#undef QCC_Y
#undef QCC_SIGNED
#undef QCC_INSIDE
#undef QCC_LO
#undef QCC_HI
#undef QCC_FORM
#undef QCC_POST
#undef QCC_NARROW
#undef QCC_BITS
#undef QCC_UP
#undef QCC_PAIRS
#undef QCC_REST
#undef QCC_ONCE
#undef QCC_TAIL
