/**
 * @file qcc_depthwise_packed.h
 * @brief Depthwise convolution with densely packed weights of 1 to 7 bits: qcc_depthwise.h that reads them one by one.
 *
 * A kernel template like the one it includes, with QCC_BITS, the width of a weight; QCC_W is uint8_t.
 * The weights are the same in the same order, a stream as qcc_bits.h reads it.
 */
#include "qcc_bits.h"

#define QCC_WEIGHT(w, i) qcc_weight((w), (i), QCC_BITS)
#include "qcc_depthwise.h"
#undef QCC_BITS
