/**
 * @file board.c
 * @brief The board interface on a machine with an operating system.
 */
#include "board.h"

#include <stdio.h>
#include <stdlib.h>

void board_puts(const char *text)
{
    (void)fputs(text, stdout);
}

void board_exit(int code)
{
    exit(code);
}

void board_stack_paint(void)
{
}

uint32_t board_stack_used(void)
{
    return 0u;
}

uint32_t board_stack_size(void)
{
    return 0u;
}
