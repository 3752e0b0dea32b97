/**
 * @file qcc_dsp_groups.h
 * @brief The channels of an image, four at a time, strip by strip: the frame of depthwise kernels.
 *
 * A part of a kernel template: it reads the macros of the kernel that includes it and leaves them
 * defined. It calls QCC_PASTE(QCC_FN, _plane) for every output channel and strip and defines QCC_FN.
 * QCC_WORDS is what an output channel has in the stream of words.
 *
 * @param[in]  x       [h][width][c]
 * @param[in]  w       stream of words: QCC_WORDS per output channel
 * @param[out] y       [oh][ow][c * m]; m = 1: it may begin at or below x, however they overlap
 * @param      planes  [tall] rows of planes, 8-aligned, and what QCC_PASTE(QCC_FN, _plane) needs
 * @param[in]  n       columns of the input that windows reach
 * @param[in]  pt, pl  padding
 * @param[in]  m       outputs per channel
 * @param[in]  chunks  blocks of QCC_PAIRS in a row
 * @param[in]  rows    output rows of a strip; the last one may have fewer
 * @param[in]  tall    rows of the planes: those that a strip reads
 */
static QCC_DSP_KERNEL void QCC_FN(const QCC_X *x, const uint32_t *w, QCC_Y *y, void *planes, int32_t h, int32_t width,
                                  int32_t c, int32_t n, int32_t pt, int32_t pl, int32_t oh, int32_t ow, int32_t m,
                                  int32_t chunks, int32_t rows, int32_t tall)
{
    const int32_t down = rows * (QCC_DOWN / QCC_ROW); /* rows of the planes from a strip to the next */
    uint32_t *spare = (uint32_t *)(void *)&((uint8_t *)planes)[tall * QCC_ROW];
    const uintptr_t gap = (uintptr_t)x - (uintptr_t)y;

    if ((gap != 0u) && (gap < (uintptr_t)(oh * ow * c * m))) {
        qcc_dsp_move_bytes(y, x, h * width * c);
        x = (const QCC_X *)(const void *)y;
    }
    qcc_dsp_zero(planes, tall * (QCC_ROW / QCC_DSP_WORD));
    for (int32_t g = 0; g < c; g += 4) {
#if QCC_FEW
        const int32_t first = 0;
        const int32_t last = c;
#else
        const int32_t first = ((g + 4) > c) ? ((g + 4) - c) : 0; /* the last group reads some again */
        const int32_t last = 4;
#endif
        const QCC_X *from = &x[g - first];
        QCC_Y *to = &y[g * m];
        int32_t have = 0; /* rows of the planes that are filled */
        int32_t r = -pt;  /* the input row that comes next */

        for (int32_t i = 0; i < oh; i += rows) {
            const uint32_t *words = w;
            QCC_Y *out = to;

            {
                uint8_t *row = &((uint8_t *)planes)[have * QCC_ROW];
                const int32_t missing = tall - have;
                const int32_t above = (r >= 0) ? 0 : ((-r < missing) ? -r : missing);
                const int32_t room = (h > (r + above)) ? (h - r - above) : 0;
                const int32_t inside = ((missing - above) < room) ? (missing - above) : room;
                uint8_t *middle = &row[above * QCC_ROW];

                if (inside > 0) {
                    const QCC_X *line = &from[(r + above) * width * c];

#if QCC_FEW
                    qcc_dsp_unpack_few(middle, line, pl, n, c, inside, QCC_ROW, width * c, QCC_SIGNED ? 128 : 0);
#elif QCC_SIGNED
                    qcc_dsp_unpack_s8(middle, line, pl, n, c, inside, QCC_ROW, width * c);
#else
                    qcc_dsp_unpack_u8(middle, line, pl, n, c, inside, QCC_ROW, width * c);
#endif
                }
                if (rows < oh) { /* else these are still zero */
                    qcc_dsp_zero(row, above * (QCC_ROW / QCC_DSP_WORD));
                    qcc_dsp_zero(&middle[inside * QCC_ROW], (missing - above - inside) * (QCC_ROW / QCC_DSP_WORD));
                }
                r += missing;
            }
            for (int32_t q = first; q < last; q++) {
                for (int32_t l = 0; l < m; l++) {
                    QCC_PASTE(QCC_FN, _plane)(&((const uint8_t *)planes)[4 * q], words, out, ow, c * m, chunks,
                                              ((oh - i) < rows) ? (oh - i) : rows, spare);
                    words += QCC_WORDS;
                    out++;
                }
            }
            to += rows * ow * c * m;
            if ((i + rows) < oh) {
                have = tall - down;
                if (have > 0) {
                    qcc_dsp_move(planes, &((const uint8_t *)planes)[down * QCC_ROW], have * (QCC_ROW / QCC_DSP_WORD));
                } else {
                    r -= have;
                    have = 0;
                }
            }
        }
        w += (last - first) * m * QCC_WORDS;
    }
}
