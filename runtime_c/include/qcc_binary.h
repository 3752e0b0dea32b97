/**
 * @file qcc_binary.h
 * @brief Sums of products of bits, 32 channels at a time.
 *
 * A word holds one bit of 32 channels, a sum is as many words as it has bits (bit slices): two
 * additions of words are five logic operations for all channels, and no population count is needed.
 */
#ifndef QCC_BINARY_H
#define QCC_BINARY_H

#include <stdint.h>
#include <string.h>

/** Slices of the largest sum that fits: 2^16 values. */
#define QCC_BINARY_SLICES 18

/** Three slices added: *sum is the same slice, the returned one the next. */
static inline uint32_t qcc_binary_add(uint32_t *sum, uint32_t a, uint32_t b)
{
    const uint32_t either = *sum ^ a;
    const uint32_t carry = (*sum & a) | (either & b);

    *sum = either ^ b;
    return carry;
}

/** A slice added to those of a sum. */
static inline void qcc_binary_carry(uint32_t *slices, uint32_t carry)
{
    while (carry != 0u) {
        const uint32_t next = *slices & carry;

        *slices ^= carry;
        carry = next;
        slices++;
    }
}

/**
 * To how many of the words w[list[i]] have each bit set, @p more is added, in slices.
 *
 * @param[in]  w       words
 * @param[in]  list    [n] which of them, n a multiple of 8
 * @param[in]  more    the same for all channels
 * @param[out] slices  [most], most at least 4
 */
static inline void qcc_binary_count(const uint32_t *w, const uint16_t *list, int32_t n, uint32_t more,
                                    uint32_t *slices, int32_t most)
{
    uint32_t ones = 0u - (more & 1u);
    uint32_t twos = 0u - ((more >> 1) & 1u);
    uint32_t fours = 0u - ((more >> 2) & 1u);
    uint32_t eights = 0u - ((more >> 3) & 1u);

    for (int32_t k = 4; k < most; k++) {
        slices[k] = 0u - ((more >> k) & 1u);
    }
    for (; n >= 8; n -= 8) {
        const uint32_t twos_a = qcc_binary_add(&ones, w[list[0]], w[list[1]]);
        const uint32_t twos_b = qcc_binary_add(&ones, w[list[2]], w[list[3]]);
        const uint32_t fours_a = qcc_binary_add(&twos, twos_a, twos_b);
        const uint32_t twos_c = qcc_binary_add(&ones, w[list[4]], w[list[5]]);
        const uint32_t twos_d = qcc_binary_add(&ones, w[list[6]], w[list[7]]);
        const uint32_t fours_b = qcc_binary_add(&twos, twos_c, twos_d);
        const uint32_t eight = qcc_binary_add(&fours, fours_a, fours_b);

        qcc_binary_carry(&slices[4], eights & eight);
        eights ^= eight;
        list += 8;
    }
    slices[0] = ones;
    slices[1] = twos;
    slices[2] = fours;
    slices[3] = eights;
}

/**
 * Which channels' sums are at least @p at.
 *
 * @param[in] slices  [n] of the sums
 * @param[in] at      [n] slices of a constant of each channel
 */
static inline uint32_t qcc_binary_reaches(const uint32_t *slices, const uint32_t *at, int32_t n)
{
    uint32_t borrow = 0;

    for (int32_t k = 0; k < n; k++) {
        borrow = (~slices[k] & at[k]) | (borrow & ~(slices[k] ^ at[k]));
    }
    return ~borrow;
}

/**
 * Which of n values are 1.
 *
 * @param[in]  x     [n] 0 or 1
 * @param[in]  tap   number of the first one
 * @param[out] list  numbers, with room for n
 *
 * @return what follows the list
 */
static inline uint16_t *qcc_binary_list(const uint8_t *x, int32_t n, int32_t tap, uint16_t *list)
{
    for (int32_t fours = n >> 2; fours > 0; fours--) {
        *list = (uint16_t)tap;
        list += x[0];
        *list = (uint16_t)(tap + 1);
        list += x[1];
        *list = (uint16_t)(tap + 2);
        list += x[2];
        *list = (uint16_t)(tap + 3);
        list += x[3];
        x += 4;
        tap += 4;
    }
    for (int32_t left = n & 3; left > 0; left--) {
        *list = (uint16_t)tap;
        list += *x;
        x++;
        tap++;
    }
    return list;
}

/** Bits, the lowest first, to n bytes of 0 and 1; n is at most 32. */
static inline void qcc_binary_store(uint8_t *y, uint32_t bits, int32_t n)
{
#if defined(__BYTE_ORDER__) && defined(__ORDER_LITTLE_ENDIAN__)
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    for (; n >= 4; n -= 4) {
        /* Copies of four bits, 7 apart: each has another bit at the bottom of a byte. */
        const uint32_t four = ((bits & 15u) * 0x00204081u) & 0x01010101u;

        (void)memcpy(y, &four, sizeof four);
        y += 4;
        bits >>= 4;
    }
#endif
#endif
    for (; n > 0; n--) {
        *y = (uint8_t)(bits & 1u);
        y++;
        bits >>= 1;
    }
}

#endif /* QCC_BINARY_H */
