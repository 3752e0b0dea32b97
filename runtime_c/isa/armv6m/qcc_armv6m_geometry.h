/**
 * @file qcc_armv6m_geometry.h
 * @brief ARMv6-M: the table that says how a convolution's window moves.
 */
#ifndef QCC_ARMV6M_GEOMETRY_H
#define QCC_ARMV6M_GEOMETRY_H

/** The geometry table of a convolution, int16_t: sizes, then where a pixel's window is. */
enum {
    QCC_WINDOW_H, /* of the input */
    QCC_WINDOW_W,
    QCC_WINDOW_C,
    QCC_WINDOW_OH,
    QCC_WINDOW_OW,
    QCC_WINDOW_OC,
    QCC_WINDOW_KH,
    QCC_WINDOW_RUNS, /* of columns that lie side by side, in each row of the window */
    QCC_WINDOW_RUN,  /* columns of a run */
    QCC_WINDOW_SH,
    QCC_WINDOW_SW,
    QCC_WINDOW_DH,
    QCC_WINDOW_DW, /* from one run to the next */
    QCC_WINDOW_PT,
    QCC_WINDOW_PL,
    QCC_WINDOW_LAST_ROW, /* of windows that lie inside: where the last ones begin */
    QCC_WINDOW_LAST_COLUMN
};

#endif /* QCC_ARMV6M_GEOMETRY_H */
