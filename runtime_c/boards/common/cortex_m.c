/**
 * @file cortex_m.c
 * @brief Vectors, reset, faults and semihosting of Arm Cortex-M.
 */
#include "start.h"

#define CPACR (*(volatile uint32_t *)0xe000ed88u)
#define CFSR (*(volatile uint32_t *)0xe000ed28u)
#define FAULT_STACK_WORDS 128

typedef void (*handler)(void);

typedef struct {
    uint32_t *stack_top;
    handler handlers[15];
} vector_table;

extern uint32_t qcc_stack_top[];

void reset_handler(void);
void fault_handler(void);
void fault_report(const uint32_t *frame);

/** The fault handler's own stack, since the fault may be that the stack has run out. */
uint32_t fault_stack[FAULT_STACK_WORDS];

__attribute__((section(".vectors"), used)) static const vector_table vectors = {
    qcc_stack_top,
    {reset_handler, fault_handler, fault_handler, fault_handler, fault_handler, fault_handler,
     fault_handler, fault_handler, fault_handler, fault_handler, fault_handler, fault_handler,
     fault_handler, fault_handler, fault_handler},
};

void reset_handler(void)
{
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
    CPACR |= 0xfu << 20; /* full access to CP10 and CP11: floating point and Helium registers */
    __asm__ volatile("dsb\n\tisb" ::: "memory");
#endif
    board_start();
}

__attribute__((naked)) void fault_handler(void)
{
    /* r0: where the processor has saved its registers. */
    __asm__ volatile(".syntax unified\n\t"
                     "mrs r0, msp\n\t"
                     "ldr r1, =fault_stack\n\t"
                     "movs r2, #128\n\t"
                     "lsls r2, r2, #2\n\t"
                     "adds r1, r1, r2\n\t"
                     "mov sp, r1\n\t"
                     "ldr r1, =fault_report\n\t"
                     "bx r1\n\t"
                     ".ltorg");
}

__attribute__((used)) void fault_report(const uint32_t *frame)
{
    const uint32_t cause = CFSR;
    /* Bits 4 and 12 (MSTKERR, STKERR): the registers could not be saved, so there is no frame. */
    const int saved = ((cause & 0x1010u) == 0u) && ((uintptr_t)frame < (uintptr_t)qcc_stack_top);

    board_fault(cause, (saved != 0) ? frame[6] : 0u);
}

int32_t semihost_call(uint32_t operation, const void *argument)
{
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;

    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory", "cc");
    return (int32_t)r0;
}
