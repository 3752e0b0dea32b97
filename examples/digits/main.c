/*
 * How a program calls a compiled model: recognise one handwritten digit.
 *
 * `make demo` compiles digits.onnx to build/demo, then builds and runs this file with
 *     gcc -std=c11 -O2 -Ibuild/demo examples/digits/main.c build/demo/digits.c -o digits
 *
 * On a microcontroller nothing changes but where the pixels come from: digits.c and digits.h need no
 * operating system. digits_float.h, which uses floating point, is only for convenience.
 */
#include <stdint.h>
#include <stdio.h>

#include "digits.h"
#include "digits_float.h"

#define SIDE 8
#define CLASSES DIGITS_LOGITS_SIZE

/* A seven drawn for this file: pixels 0 (paper) to 16 (ink). */
static const uint8_t drawing[SIDE * SIDE] = {
    0, 0, 10, 14, 16, 16, 6, 0,
    0, 0, 9, 11, 10, 15, 12, 0,
    0, 0, 0, 0, 1, 15, 8, 0,
    0, 0, 3, 7, 11, 16, 8, 0,
    0, 0, 10, 16, 16, 13, 5, 0,
    0, 0, 1, 10, 14, 2, 0, 0,
    0, 0, 5, 16, 6, 0, 0, 0,
    0, 0, 11, 12, 0, 0, 0, 0,
};

/* Working memory of the model: the caller's, of a size that the header states. */
static _Alignas(DIGITS_ARENA_ALIGN) uint8_t arena[DIGITS_ARENA_BYTES];

static void show(void)
{
    for (int i = 0; i < SIDE; i++) {
        for (int j = 0; j < SIDE; j++) {
            const uint8_t v = drawing[(i * SIDE) + j];

            fputs((v < 4u) ? "  " : ((v < 10u) ? "::" : "##"), stdout);
        }
        putchar('\n');
    }
}

int main(void)
{
    uint8_t image[DIGITS_IMAGE_SIZE];
    int8_t logits[DIGITS_LOGITS_SIZE];
    int best = 0;

    /* The header says what an integer stands for: real = scale * q. A sensor that delivers integers
       is scaled once, by a table or by the way the model was calibrated. */
    for (int i = 0; i < DIGITS_IMAGE_SIZE; i++) {
        image[i] = digits_quantize_image((float)drawing[i]);
    }
    if (digits_run(image, logits, arena) != 0) {
        fputs("digits_run refused its arguments\n", stderr);
        return 1;
    }
    for (int k = 1; k < CLASSES; k++) {
        if (logits[k] > logits[best]) { /* comparing needs no real values */
            best = k;
        }
    }
    show();
    printf("this is a %d (logit %.2f, arena %d bytes)\n", best,
           (double)digits_dequantize_logits(logits[best]), DIGITS_ARENA_BYTES);
    return (best == 7) ? 0 : 1;
}
