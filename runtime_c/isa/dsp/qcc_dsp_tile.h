/**
 * @file qcc_dsp_tile.h
 * @brief All output channels of two pixels: what the DSP convolutions share.
 *
 * A part of a kernel template: it reads the macros of the kernel that includes it and leaves them
 * defined. It defines QCC_PASTE(QCC_FN, _tile).
 *
 * QCC_Y            output type
 * QCC_LO, QCC_HI   clip
 * QCC_FORM         how an accumulator is rescaled: 0 by a shift per channel, 1 by the shift
 *                  QCC_POST (the rounding half is in the bias); 2 by a multiplier per channel m and
 *                  the shift p = 32 + QCC_POST: floor((acc * m + 2^(p-1)) / 2^p), which is
 *                  (floor(acc * m / 2^32) + 2^(p-33)) >> (p-32) for p >= 33
 * QCC_BITS         of the weights: 8 or 16
 * QCC_SEGMENTS     runs of inputs of a window (rows of the kernel)
 * QCC_PAIRS        pairs of inputs that one unrolled block takes
 * QCC_REST         pairs of a run that are left after the blocks
 * QCC_ONCE         1: a run is one block and the rest, no loop
 * QCC_TAIL         output channels modulo 4
 * QCC_RUN4(S, W), QCC_RUN2(S, W), QCC_REST4(S, W), QCC_REST2(S, W): blocks of qcc_dsp_block.h
 *
 * The stream of words, per 4 channels (the last ones may be 2): 4 biases; the weights, run by run;
 * then one word of 4 shifts (form 0), none (1) or 4 multipliers (2).
 */
#if QCC_FORM == 0
#define QCC_DSP_OUT(acc, n) qcc_clamp32(qcc_dsp_asr((acc), shifts >> (8 * (n))), QCC_LO, QCC_HI)
#elif QCC_FORM == 1
#define QCC_DSP_OUT(acc, n) qcc_clamp32(qcc_asr32((acc), QCC_POST), QCC_LO, QCC_HI)
#else
#define QCC_DSP_OUT(acc, n) \
    qcc_clamp32(qcc_asr32(qcc_smmla((int32_t)1 << (QCC_POST - 1), (acc), (int32_t)w[n]), QCC_POST), QCC_LO, QCC_HI)
#endif

/**
 * @param[in]  row     every run of pixel A begins `at` bytes after one of these
 * @param[in]  at      the same for all runs
 * @param[in]  w       stream of words, see above
 * @param[out] ya, yb  outputs of pixel A and pixel B; the same: pixel B is none
 * @param[in]  fours   blocks of 4 channels
 * @param[in]  chunks  blocks of QCC_PAIRS in a run
 */
static inline void QCC_PASTE(QCC_FN, _tile)(int16_t *const *row, int32_t at, const uint32_t *w, QCC_Y *ya,
                                            QCC_Y *yb, int32_t fours, int32_t chunks)
{
    (void)chunks;
    for (; fours > 0; fours--) {
        int32_t a0 = (int32_t)w[0];
        int32_t a1 = (int32_t)w[1];
        int32_t a2 = (int32_t)w[2];
        int32_t a3 = (int32_t)w[3];
        int32_t b0 = a0;
        int32_t b1 = a1;
        int32_t b2 = a2;
        int32_t b3 = a3;

        w += 4;
        for (int32_t r = 0; r < QCC_SEGMENTS; r++) {
            const void *s = (const uint8_t *)row[r] + at;

#if QCC_ONCE
            QCC_RUN4(s, w);
#else
            for (int32_t k = chunks; k > 0; k--) {
                QCC_RUN4(s, w);
            }
#endif
#if QCC_REST
            QCC_REST4(s, w);
#endif
        }
        {
#if QCC_FORM == 0
            const uint32_t shifts = *w++;
#endif
            yb[0] = (QCC_Y)QCC_DSP_OUT(b0, 0);
            yb[1] = (QCC_Y)QCC_DSP_OUT(b1, 1);
            yb[2] = (QCC_Y)QCC_DSP_OUT(b2, 2);
            ya[0] = (QCC_Y)QCC_DSP_OUT(a0, 0);
            ya[1] = (QCC_Y)QCC_DSP_OUT(a1, 1);
            ya[2] = (QCC_Y)QCC_DSP_OUT(a2, 2);
#if QCC_TAIL == 3
            if (fours > 1) {
                yb[3] = (QCC_Y)QCC_DSP_OUT(b3, 3);
                ya[3] = (QCC_Y)QCC_DSP_OUT(a3, 3);
            }
#else
            yb[3] = (QCC_Y)QCC_DSP_OUT(b3, 3);
            ya[3] = (QCC_Y)QCC_DSP_OUT(a3, 3);
#endif
#if QCC_FORM == 2
            w += 4;
#endif
        }
        ya += 4;
        yb += 4;
    }
#if (QCC_TAIL == 1) || (QCC_TAIL == 2)
    {
        int32_t a0 = (int32_t)w[0];
        int32_t a1 = (int32_t)w[1];
        int32_t b0 = a0;
        int32_t b1 = a1;

        w += 2;
        for (int32_t r = 0; r < QCC_SEGMENTS; r++) {
            const void *s = (const uint8_t *)row[r] + at;

#if QCC_ONCE
            QCC_RUN2(s, w);
#else
            for (int32_t k = chunks; k > 0; k--) {
                QCC_RUN2(s, w);
            }
#endif
#if QCC_REST
            QCC_REST2(s, w);
#endif
        }
        {
#if QCC_FORM == 0
            const uint32_t shifts = *w;
#endif
            yb[0] = (QCC_Y)QCC_DSP_OUT(b0, 0);
            ya[0] = (QCC_Y)QCC_DSP_OUT(a0, 0);
#if QCC_TAIL == 2
            yb[1] = (QCC_Y)QCC_DSP_OUT(b1, 1);
            ya[1] = (QCC_Y)QCC_DSP_OUT(a1, 1);
#else
            (void)a1;
            (void)b1;
#endif
        }
    }
#endif
}
#undef QCC_DSP_OUT
