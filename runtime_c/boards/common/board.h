/**
 * @file board.h
 * @brief What the check program needs of the machine it runs on: text out, an exit code, the stack.
 *
 * On the host it is stdio; on an emulated board it is semihosting (boards/common/start.c).
 */
#ifndef QCC_BOARD_H
#define QCC_BOARD_H

#include <stdint.h>

/** Write @p text, as it is, to the console. */
void board_puts(const char *text);

/** End the program: @p code becomes the exit status of the emulator. Does not return. */
void board_exit(int code);

/** Fill the unused part of the stack with a pattern, so that board_stack_used() can see what follows. */
void board_stack_paint(void);

/** Bytes of stack used below the caller since board_stack_paint(); 0 where it cannot be measured. */
uint32_t board_stack_used(void);

/** Bytes of stack that the board has; 0 where it is not known. */
uint32_t board_stack_size(void);

#endif /* QCC_BOARD_H */
