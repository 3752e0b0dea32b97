/**
 * @file qcc_armv6m_dense.h
 * @brief Fully connected layer of one vector, two products a multiply: ARMv6-M.
 *
 * A kernel template: define QCC_FN (function name), QCC_FLIP (128 where x is signed, else 0), QCC_FORM
 * (rescaling, see qcc_armv6m.h) and QCC_SHORT (1: short records, see below, with form 0; else 0) and
 * include it; it may be included again with other definitions. The macros are undefined at its end.
 *
 * Of four bytes u0 to u3 of an output's weights, a mask takes u0 | u2 << 16; times a2 | a0 << 16,
 * modulo 2^32, this is (a0 * u0 + a2 * u2) << 16, plus a2 * u0 below 2^16: the high half is the sum
 * of two products, which the compiler keeps below 2^16. The other two bytes the same way. With
 * u = w + z - q the stored weights, s the sum of x and q what few large weights are beyond the bytes
 * that store them:
 *   y[o] = rescale(sum of u[o] * x - z[o] * s + sum of q[o] * x)
 * The compiler has bounded the accumulator |sum + k| below 2^31. Inputs are spread to half-words
 * QCC_ARMV6M_CHUNK at a time, for QCC_ARMV6M_BLOCK outputs, on the stack.
 *
 * @param[in]  x    [inputs], uint8_t or int8_t
 * @param[in]  wt   per block of outputs, chunk of inputs and four of the outputs: [inputs / 4][4]
 *                  words of four bytes u, a chunk filled up to a multiple of eight inputs
 * @param[in]  k    [outputs] records: k, shift | z << 8 | (has q) << 16, see qcc_armv6m.h; or, short,
 *                  one word: shift - least | (z / 8 - 1) << 4 | (has q) << 8 | k << 9
 * @param[in]  far  per q of each output in turn: inputs from the one before it, with 128 added to its
 *                  last one's; q (int8_t)
 * @param[in]  least  the least shift of short records
 * @param[out] y    [outputs], uint8_t or int8_t
 */
#include "qcc_armv6m_dot.h"

static QCC_NOINLINE void QCC_FN(const void *x, const uint32_t *wt, const int32_t *k, const uint8_t *far,
                                int32_t inputs, int32_t outputs, int32_t least, void *y, int32_t lo, int32_t hi)
{
    const uint8_t *const from = (const uint8_t *)x;
    uint8_t *to = (uint8_t *)y;
    uint32_t words[QCC_ARMV6M_CHUNK / 2];
    uint32_t sums[QCC_ARMV6M_BLOCK];
    uint32_t total = 0;

    (void)least; /* of short records only */
    while (outputs > 0) {
        const int32_t block = (outputs < QCC_ARMV6M_BLOCK) ? outputs : QCC_ARMV6M_BLOCK;

        /* One chunk stays where it is. */
        if ((inputs > QCC_ARMV6M_CHUNK) || (to == (uint8_t *)y)) {
            total = 0;
        }
        for (int32_t o = 0; o < QCC_ARMV6M_BLOCK; o++) {
            sums[o] = 0;
        }
        for (int32_t at = 0; at < inputs; at += QCC_ARMV6M_CHUNK) {
            const int32_t n = ((inputs - at) < QCC_ARMV6M_CHUNK) ? (inputs - at) : QCC_ARMV6M_CHUNK;
            const int32_t filled = (n + 7) & ~7;

            if ((inputs > QCC_ARMV6M_CHUNK) || (to == (uint8_t *)y)) {
                total += qcc_armv6m_quads(&from[at], words, n, filled, QCC_FLIP);
            }
            for (int32_t o = 0; o < block; o += 4) {
                wt = qcc_armv6m_dot(words, wt, filled / 2, &sums[o]);
            }
        }
        for (int32_t o = 0; o < block; o++) {
            const uint32_t meta = (uint32_t)k[(QCC_SHORT != 0) ? 0 : 1];
            const uint32_t z = (QCC_SHORT != 0) ? ((((meta >> 4) & 15u) + 1u) << 3) : ((meta >> 8) & 0xFFu);
            uint32_t more = (QCC_SHORT != 0) ? (meta & 0x100u) : (meta >> 16);
            uint32_t sum = sums[o] - (total * z);
            const uint8_t *a = from;
            int32_t v;

            while (more != 0u) {
                a += far[0] & 0x7Fu;
                sum += ((uint32_t)*a ^ QCC_FLIP) * (uint32_t)(((int32_t)far[1] ^ 0x80) - 0x80);
                more = (far[0] & 0x80u) ^ 0x80u;
                far += 2;
            }
            if (QCC_SHORT != 0) {
                v = qcc_asr32((int32_t)(sum + (uint32_t)qcc_asr32(k[0], 9)), least + (int32_t)(meta & 15u));
                v = qcc_clamp32(v, lo, hi);
                k++;
            } else {
                v = qcc_armv6m_rescale(QCC_FORM, sum, k, lo, hi);
                k += QCC_ARMV6M_RECORD(QCC_FORM);
            }
            *to = (uint8_t)v;
            to++;
        }
        outputs -= block;
    }
}

#undef QCC_FN
#undef QCC_FLIP
#undef QCC_FORM
#undef QCC_SHORT
