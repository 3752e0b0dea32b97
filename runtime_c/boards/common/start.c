/**
 * @file start.c
 * @brief Start-up, console and stack measurement of the emulated boards, after the reset handler.
 *
 * Freestanding: neither a C library nor its start files are linked. The symbols come from link.ld.
 */
#include "start.h"

#include "board.h"

/** The reason "the application has ended" of SYS_EXIT_EXTENDED. */
#define APPLICATION_EXIT 0x20026u

#define PAINT 0xc5c5c5c5u

/** Words that stay unpainted below the frame that paints: it is still in use. */
#define LIVE_WORDS 16u

extern const uint32_t qcc_data_load[];
extern uint32_t qcc_data_start[];
extern uint32_t qcc_data_end[];
extern uint32_t qcc_bss_start[];
extern uint32_t qcc_bss_end[];
extern uint32_t qcc_stack_low[];
extern uint32_t qcc_stack_top[];

int main(void);

static uintptr_t painted_below;

void board_puts(const char *text)
{
    (void)semihost_call(SEMIHOST_WRITE0, text);
}

void board_exit(int code)
{
    const uint32_t reason[2] = {APPLICATION_EXIT, (uint32_t)code};

    (void)semihost_call(SEMIHOST_EXIT_EXTENDED, reason);
    for (;;) {
        /* Without a debugger attached there is nobody to return to. */
    }
}

/* Not inlined: the address of its frame is what the measurement starts from. */
__attribute__((noinline)) void board_stack_paint(void)
{
    const uintptr_t frame = (uintptr_t)__builtin_frame_address(0);
    const uintptr_t low = (uintptr_t)qcc_stack_low;
    const uintptr_t words = ((frame - low) / sizeof(uint32_t)) - LIVE_WORDS;

    painted_below = frame;
    for (uintptr_t i = 0u; i < words; i++) {
        ((volatile uint32_t *)qcc_stack_low)[i] = PAINT;
    }
}

uint32_t board_stack_used(void)
{
    const volatile uint32_t *word = qcc_stack_low;

    while (((uintptr_t)word < painted_below) && (*word == PAINT)) {
        word++;
    }
    return (uint32_t)(painted_below - (uintptr_t)word);
}

uint32_t board_stack_size(void)
{
    return (uint32_t)((uintptr_t)qcc_stack_top - (uintptr_t)qcc_stack_low);
}

static void put_hex(uint32_t value)
{
    char text[9];

    for (uint32_t i = 0u; i < 8u; i++) {
        text[i] = "0123456789abcdef"[(value >> (28u - (4u * i))) & 0xfu];
    }
    text[8] = '\0';
    board_puts(text);
}

void board_fault(uint32_t cause, uint32_t address)
{
    board_puts("qcc board: processor fault, cause 0x");
    put_hex(cause);
    board_puts(" at 0x");
    put_hex(address);
    board_puts(" (a stack overflow, or a pointer that leads nowhere)\n");
    board_exit(BOARD_EXIT_FAULT);
}

void board_start(void)
{
    const uint32_t *from = qcc_data_load;
    int code;

    for (uint32_t *to = qcc_data_start; (uintptr_t)to < (uintptr_t)qcc_data_end; to++) {
        *to = *from;
        from++;
    }
    for (uint32_t *to = qcc_bss_start; (uintptr_t)to < (uintptr_t)qcc_bss_end; to++) {
        *to = 0u;
    }
    board_stack_paint();
    code = main();
    if (*(volatile uint32_t *)qcc_stack_low != PAINT) {
        board_puts("qcc board: stack overflow\n");
        code = BOARD_EXIT_FAULT;
    }
    board_exit(code);
}
