/**
 * @file qcc_bits.h
 * @brief Weights of fewer than 8 bits, densely packed: one of them.
 */
#ifndef QCC_BITS_H
#define QCC_BITS_H

#include <stdint.h>

/**
 * Weight @p i of a table of @p bits bits each, bits a constant from 1 to 7.
 *
 * The table is one stream: weight i takes the bits from i * bits on, the lowest of a byte first, in
 * two's complement. Of 1 bit, a set one is +1, the other one -1. Where weights cross bytes (3, 5, 6
 * and 7 bits) the table is one byte longer than they are. i * bits is below 2^31.
 */
static inline int32_t qcc_weight(const uint8_t *w, int32_t i, int32_t bits)
{
    const uint32_t at = (uint32_t)i * (uint32_t)bits;
    const uint32_t sign = (uint32_t)1 << (bits - 1);
    uint32_t field = w[at >> 3];

    if ((bits != 1) && (bits != 2) && (bits != 4)) {
        field |= (uint32_t)w[(at >> 3) + 1u] << 8;
    }
    field = (field >> (at & 7u)) & ((sign << 1) - 1u);
    return (bits == 1) ? (((int32_t)field * 2) - 1) : ((int32_t)(field ^ sign) - (int32_t)sign);
}

#endif /* QCC_BITS_H */
