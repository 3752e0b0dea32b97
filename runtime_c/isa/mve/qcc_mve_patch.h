/**
 * @file qcc_mve_patch.h
 * @brief Brings the input of a convolution in an order in which every window is one run of bytes.
 *
 * Values are flipped on the way (qcc_mve.h), taps in the padding are 0 ^ flip. Three layouts:
 * - strip: per column of the input the kh values-vectors of the window's rows, [column][kh][c].
 *   Windows of neighbouring pixels overlap, sw * kh * c bytes apart, so that a value is copied kh
 *   times only. Weights are [kw][kh][c].
 * - rows: every window on its own, [pixel][kh][kw * c]: fewer and longer pieces where c is small.
 * - taps: the same bytes, tap by tap: any distance of the taps in a row.
 */
#ifndef QCC_MVE_PATCH_H
#define QCC_MVE_PATCH_H

#include "qcc_mve.h"

/** What the layouts need to know of a convolution; *c* of the *pitch* channels are read. */
typedef struct {
    const uint8_t *x;
    int32_t flip;
    int32_t h;
    int32_t w;
    int32_t pitch;
    int32_t c;
    int32_t kh;
    int32_t kw;
    int32_t sw;
    int32_t dh;
    int32_t dw;
} qcc_mve_window;

/** Row @p row of x, columns left, left + step, ...: @p count pieces of n bytes, zeros outside. */
static inline void qcc_mve_row(const qcc_mve_window *g, uint8_t *to, int32_t tstep, int32_t row,
                               int32_t left, int32_t step, int32_t count)
{
    int32_t before = 0;
    int32_t after = 0;

    if ((row < 0) || (row >= g->h)) {
        qcc_mve_fill(to, tstep, g->c, count, g->flip);
        return;
    }
    for (int32_t at = left; (at < 0) && (before < count); at += step) {
        before++;
    }
    for (int32_t at = left + ((count - 1) * step); (at >= g->w) && ((before + after) < count); at -= step) {
        after++;
    }
    qcc_mve_fill(to, tstep, g->c, before, g->flip);
    to += before * tstep;
    count -= before + after;
    if (count > 0) {
        qcc_mve_copies(to, tstep, &g->x[((row * g->w) + left + (before * step)) * g->pitch], step * g->pitch,
                       g->c, count, g->flip);
        to += count * tstep;
    }
    qcc_mve_fill(to, tstep, g->c, after, g->flip);
}

/** The strip of @p count columns from @p left, windows beginning at row @p top. */
QCC_MVE_FN void qcc_mve_strip(const qcc_mve_window *g, uint8_t *to, int32_t top, int32_t left, int32_t count)
{
    for (int32_t u = 0; u < g->kh; u++) {
        qcc_mve_row(g, to, g->kh * g->c, top + (u * g->dh), left, 1, count);
        to += g->c;
    }
}

/** The windows of @p count pixels, the first at (top, left), tap by tap. */
QCC_MVE_FN void qcc_mve_taps(const qcc_mve_window *g, uint8_t *to, int32_t top, int32_t left, int32_t count)
{
    const int32_t size = g->kh * g->kw * g->c;

    for (int32_t u = 0; u < g->kh; u++) {
        for (int32_t v = 0; v < g->kw; v++) {
            qcc_mve_row(g, to, size, top + (u * g->dh), left + (v * g->dw), g->sw, count);
            to += g->c;
        }
    }
}

/** Row by row, a pixel whose window has columns in the padding. */
static inline void qcc_mve_border(const qcc_mve_window *g, uint8_t *to, int32_t top, int32_t left)
{
    const int32_t v0 = (left < 0) ? -left : 0;
    const int32_t v1 = ((left + g->kw) > g->w) ? (g->w - left) : g->kw;
    const int32_t n = g->kw * g->c;

    qcc_mve_fill(to, g->kh * n, g->kh * n, 1, g->flip);
    for (int32_t u = 0; u < g->kh; u++) {
        const int32_t row = top + (u * g->dh);

        if ((row >= 0) && (row < g->h) && (v1 > v0)) {
            qcc_mve_copy(&to[v0 * g->c], &g->x[((row * g->w) + left + v0) * g->c], (v1 - v0) * g->c, g->flip);
        }
        to += n;
    }
}

/** The windows of @p count pixels, the first at (top, left), row by row; dw is 1, pitch is c. */
QCC_MVE_FN void qcc_mve_rows(const qcc_mve_window *g, uint8_t *to, int32_t top, int32_t left, int32_t count)
{
    const int32_t n = g->kw * g->c;
    const int32_t size = g->kh * n;
    int32_t inside = 0;
    int32_t at;

    while ((count > 0) && (left < 0)) {
        qcc_mve_border(g, to, top, left);
        to += size;
        left += g->sw;
        count--;
    }
    at = left + g->kw;
    while ((inside < count) && (at <= g->w)) {
        at += g->sw;
        inside++;
    }
    for (int32_t u = 0; (u < g->kh) && (inside > 0); u++) {
        const int32_t row = top + (u * g->dh);

        if ((row < 0) || (row >= g->h)) {
            qcc_mve_fill(&to[u * n], size, n, inside, g->flip);
        } else {
            qcc_mve_copies(&to[u * n], size, &g->x[((row * g->w) + left) * g->c], g->sw * g->c, n, inside, g->flip);
        }
    }
    to += inside * size;
    left += inside * g->sw;
    for (count -= inside; count > 0; count--) {
        qcc_mve_border(g, to, top, left);
        to += size;
        left += g->sw;
    }
}

#endif /* QCC_MVE_PATCH_H */
