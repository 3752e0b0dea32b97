/**
 * @file memory.c
 * @brief memcpy, memmove, memset, memcmp: compilers may call them whatever the source says.
 *
 * The empty assembly statements keep a compiler from turning a loop into a call of itself.
 */
#include <stdint.h>

#include "libc/string.h"

#define KEEP_LOOP() __asm__ volatile("" ::: "memory")

static int word_aligned(const void *a, const void *b)
{
    return (((uintptr_t)a | (uintptr_t)b) & (sizeof(uint32_t) - 1u)) == 0u;
}

void *memcpy(void *restrict to, const void *restrict from, size_t bytes)
{
    uint8_t *t = to;
    const uint8_t *f = from;
    size_t i = 0u;

    if (word_aligned(to, from)) {
        for (; (bytes - i) >= sizeof(uint32_t); i += sizeof(uint32_t)) {
            *(uint32_t *)(void *)&t[i] = *(const uint32_t *)(const void *)&f[i];
            KEEP_LOOP();
        }
    }
    for (; i < bytes; i++) {
        t[i] = f[i];
        KEEP_LOOP();
    }
    return to;
}

void *memmove(void *to, const void *from, size_t bytes)
{
    uint8_t *t = to;
    const uint8_t *f = from;

    if ((uintptr_t)to <= (uintptr_t)from) {
        for (size_t i = 0u; i < bytes; i++) {
            t[i] = f[i];
            KEEP_LOOP();
        }
        return to;
    }
    for (size_t i = bytes; i > 0u; i--) {
        t[i - 1u] = f[i - 1u];
        KEEP_LOOP();
    }
    return to;
}

void *memset(void *to, int value, size_t bytes)
{
    uint8_t *t = to;
    const uint32_t word = (uint32_t)(uint8_t)value * 0x01010101u;
    size_t i = 0u;

    if (word_aligned(to, to)) {
        for (; (bytes - i) >= sizeof(uint32_t); i += sizeof(uint32_t)) {
            *(uint32_t *)(void *)&t[i] = word;
            KEEP_LOOP();
        }
    }
    for (; i < bytes; i++) {
        t[i] = (uint8_t)value;
        KEEP_LOOP();
    }
    return to;
}

int memcmp(const void *a, const void *b, size_t bytes)
{
    const uint8_t *p = a;
    const uint8_t *q = b;

    for (size_t i = 0u; i < bytes; i++) {
        if (p[i] != q[i]) {
            return (int)p[i] - (int)q[i];
        }
    }
    return 0;
}
