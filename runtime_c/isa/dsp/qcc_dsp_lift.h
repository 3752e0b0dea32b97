/**
 * @file qcc_dsp_lift.h
 * @brief How far the accumulators of four channels are shifted up by packed weights.
 *
 * A part of a kernel template: it reads QCC_BITS, QCC_UP and, below 8 bits, QCC_SPLIT. It defines, until
 * it is included again:
 *
 * QCC_DSP_LIFT0..3     bits by which packed weights shift channel 0..3 of a block (4..7 alike) up
 * QCC_DSP_TOTAL0..3    the same once every channel is up by QCC_UP or more, for factors above 1
 * QCC_DSP_TOTAL(n)     the same, of a number
 * QCC_DSP_RAISE0..3(r) text that takes register r from the lift to the total
 * QCC_DSP_RAISED(n, a) the same of a number, in C
 * QCC_DSP_WEIGHTS      kind of weights, as in the names of qcc_dsp_block.h
 * QCC_DSP_UNIT_PAIRS   pairs of inputs that one word, or step, of weights is for
 * QCC_DSP_UNIT_WORDS   words of weights per unit and 4 channels
 * QCC_DSP_ALL_OFFSET   1: channel 3 has an offset as well; 0: it is in two's complement
 * QCC_DSP_LESS(a, b, c, d, s)     text that takes the offset s off accumulators of channels 0..3
 * QCC_DSP_OFFSETS(a, b, c, d, s)  the same in C, modulo 2^32
 */
#undef QCC_DSP_LIFT0
#undef QCC_DSP_LIFT1
#undef QCC_DSP_LIFT2
#undef QCC_DSP_LIFT3
#undef QCC_DSP_LIFT
#undef QCC_DSP_TOTAL0
#undef QCC_DSP_TOTAL1
#undef QCC_DSP_TOTAL2
#undef QCC_DSP_TOTAL3
#undef QCC_DSP_TOTAL
#undef QCC_DSP_RAISE0
#undef QCC_DSP_RAISE1
#undef QCC_DSP_RAISE2
#undef QCC_DSP_RAISE3
#undef QCC_DSP_RAISED
#undef QCC_DSP_WEIGHTS
#undef QCC_DSP_UNIT_PAIRS
#undef QCC_DSP_UNIT_WORDS
#undef QCC_DSP_ALL_OFFSET
#undef QCC_DSP_LESS
#undef QCC_DSP_OFFSETS

#define QCC_DSP_LIFT0 0
#if QCC_BITS >= 8
#define QCC_DSP_LIFT1 0
#define QCC_DSP_LIFT2 0
#define QCC_DSP_LIFT3 0
#define QCC_DSP_WEIGHTS QCC_BITS
#define QCC_DSP_UNIT_PAIRS 1
#if QCC_BITS == 8
#define QCC_DSP_UNIT_WORDS 2
#else
#define QCC_DSP_UNIT_WORDS 4
#endif
#define QCC_DSP_ALL_OFFSET 0
#elif QCC_BITS == 2
#define QCC_DSP_LIFT1 2
#define QCC_DSP_LIFT2 4
#define QCC_DSP_LIFT3 6
#define QCC_DSP_WEIGHTS 2
#define QCC_DSP_UNIT_PAIRS 2
#define QCC_DSP_UNIT_WORDS 1
#define QCC_DSP_ALL_OFFSET 1
#else
#define QCC_DSP_LIFT1 4
#define QCC_DSP_UNIT_PAIRS 1
#define QCC_DSP_UNIT_WORDS 1
#if QCC_SPLIT
#define QCC_DSP_LIFT2 0
#define QCC_DSP_LIFT3 4
#define QCC_DSP_WEIGHTS 4S
#define QCC_DSP_ALL_OFFSET 1
#else
#define QCC_DSP_LIFT2 8
#define QCC_DSP_LIFT3 12
#define QCC_DSP_WEIGHTS 4
#define QCC_DSP_ALL_OFFSET 0
#endif
#endif

#if QCC_UP > QCC_DSP_LIFT0
#define QCC_DSP_TOTAL0 QCC_UP
#define QCC_DSP_RAISE0(r) QCC_DSP_RAISE(r, QCC_DSP_LIFT0)
#else
#define QCC_DSP_TOTAL0 QCC_DSP_LIFT0
#define QCC_DSP_RAISE0(r) ""
#endif
#if QCC_UP > QCC_DSP_LIFT1
#define QCC_DSP_TOTAL1 QCC_UP
#define QCC_DSP_RAISE1(r) QCC_DSP_RAISE(r, QCC_DSP_LIFT1)
#else
#define QCC_DSP_TOTAL1 QCC_DSP_LIFT1
#define QCC_DSP_RAISE1(r) ""
#endif
#if QCC_UP > QCC_DSP_LIFT2
#define QCC_DSP_TOTAL2 QCC_UP
#define QCC_DSP_RAISE2(r) QCC_DSP_RAISE(r, QCC_DSP_LIFT2)
#else
#define QCC_DSP_TOTAL2 QCC_DSP_LIFT2
#define QCC_DSP_RAISE2(r) ""
#endif
#if QCC_UP > QCC_DSP_LIFT3
#define QCC_DSP_TOTAL3 QCC_UP
#define QCC_DSP_RAISE3(r) QCC_DSP_RAISE(r, QCC_DSP_LIFT3)
#else
#define QCC_DSP_TOTAL3 QCC_DSP_LIFT3
#define QCC_DSP_RAISE3(r) ""
#endif
#define QCC_DSP_TOTAL(n) \
    (((n) == 0) ? QCC_DSP_TOTAL0 : ((n) == 1) ? QCC_DSP_TOTAL1 : ((n) == 2) ? QCC_DSP_TOTAL2 : QCC_DSP_TOTAL3)
#define QCC_DSP_LIFT(n) \
    (((n) == 0) ? QCC_DSP_LIFT0 : ((n) == 1) ? QCC_DSP_LIFT1 : ((n) == 2) ? QCC_DSP_LIFT2 : QCC_DSP_LIFT3)
#define QCC_DSP_RAISED(n, a) ((int32_t)((uint32_t)(a) << (QCC_DSP_TOTAL(n) - QCC_DSP_LIFT(n))))

#if QCC_DSP_ALL_OFFSET
#define QCC_DSP_LESS(a, b, c, d, s)                                                                \
    QCC_DSP_LESS1(a, s, QCC_DSP_LIFT0) QCC_DSP_LESS1(b, s, QCC_DSP_LIFT1) QCC_DSP_LESS1(c, s, QCC_DSP_LIFT2) \
        QCC_DSP_LESS1(d, s, QCC_DSP_LIFT3)
#define QCC_DSP_OFFSETS(a, b, c, d, s)    \
    do {                                  \
        a = qcc_dsp_less(a, s, QCC_DSP_LIFT0); \
        b = qcc_dsp_less(b, s, QCC_DSP_LIFT1); \
        c = qcc_dsp_less(c, s, QCC_DSP_LIFT2); \
        d = qcc_dsp_less(d, s, QCC_DSP_LIFT3); \
    } while (0)
#else
#define QCC_DSP_LESS(a, b, c, d, s) \
    QCC_DSP_LESS1(a, s, QCC_DSP_LIFT0) QCC_DSP_LESS1(b, s, QCC_DSP_LIFT1) QCC_DSP_LESS1(c, s, QCC_DSP_LIFT2)
#define QCC_DSP_OFFSETS(a, b, c, d, s)    \
    do {                                  \
        a = qcc_dsp_less(a, s, QCC_DSP_LIFT0); \
        b = qcc_dsp_less(b, s, QCC_DSP_LIFT1); \
        c = qcc_dsp_less(c, s, QCC_DSP_LIFT2); \
    } while (0)
#endif
