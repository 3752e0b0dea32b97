/**
 * @file qcc_armv6m_window.h
 * @brief ARMv6-M: the inputs of one output pixel of a convolution, side by side.
 */
#ifndef QCC_ARMV6M_WINDOW_H
#define QCC_ARMV6M_WINDOW_H

#include "qcc_armv6m_geometry.h"
#include "qcc_armv6m_spread.h"

/** Part of a row of a window: columns at and after, @p run of them; those outside mean zero. */
static inline uint32_t qcc_armv6m_run(const uint8_t *row, uint16_t *d, int32_t at, int32_t run, int32_t w,
                                      int32_t c, uint32_t flip)
{
    int32_t before = (at < 0) ? -at : 0; /* columns to the left of the input, to its right */
    int32_t after = ((at + run) > w) ? ((at + run) - w) : 0;
    uint32_t sum;

    before = (before > run) ? run : before;
    after = (after > (run - before)) ? (run - before) : after;
    sum = qcc_armv6m_blank(d, before * c, flip);
    d += 2 * before * c;
    run -= before + after;
    if (run != 0) {
        sum += qcc_armv6m_spread(&row[(at + before) * c], d, 1, run * c, 0, flip);
        d += 2 * run * c;
    }
    return sum + qcc_armv6m_blank(d, after * c, flip);
}

/**
 * The window of output pixel (i, j), row by row, to every other half-word of d.
 *
 * @param[in]  x     [h][w][c] bytes
 * @param[out] d     kh * runs * run * c values, every second one
 * @param[in]  g     geometry
 * @param[in]  flip  0, or 128 where x is signed
 *
 * @return the sum of the values
 */
static QCC_NOINLINE uint32_t qcc_armv6m_window(const uint8_t *x, uint16_t *d, const int16_t *g, int32_t i,
                                               int32_t j, uint32_t flip)
{
    const int32_t w = g[QCC_WINDOW_W];
    const int32_t c = g[QCC_WINDOW_C];
    const int32_t run = g[QCC_WINDOW_RUN];
    const int32_t left = (j * g[QCC_WINDOW_SW]) - g[QCC_WINDOW_PL];
    int32_t row = (i * g[QCC_WINDOW_SH]) - g[QCC_WINDOW_PT];
    uint32_t sum = 0;

    if ((row >= 0) && (row <= g[QCC_WINDOW_LAST_ROW]) && (left >= 0) && (left <= g[QCC_WINDOW_LAST_COLUMN])) {
        return qcc_armv6m_spread(&x[((row * w) + left) * c], d, g[QCC_WINDOW_KH], run * c,
                                 g[QCC_WINDOW_DH] * w * c, flip);
    }
    for (int32_t rows = g[QCC_WINDOW_KH]; rows > 0; rows--) {
        const uint32_t inside = (uint32_t)row < (uint32_t)g[QCC_WINDOW_H];
        int32_t at = left;

        for (int32_t runs = g[QCC_WINDOW_RUNS]; runs > 0; runs--) {
            if (inside != 0u) {
                sum += qcc_armv6m_run(&x[row * w * c], d, at, run, w, c, flip);
            } else {
                sum += qcc_armv6m_blank(d, run * c, flip);
            }
            d += 2 * run * c;
            at += g[QCC_WINDOW_DW];
        }
        row += g[QCC_WINDOW_DH];
    }
    return sum;
}

#endif /* QCC_ARMV6M_WINDOW_H */
