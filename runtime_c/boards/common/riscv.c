/**
 * @file riscv.c
 * @brief Reset, traps and semihosting of 32-bit RISC-V in machine mode.
 */
#include "start.h"

void reset_handler(void);
void trap_handler(void);
void trap_report(uint32_t cause, uint32_t address);

/** The trap handler's own stack, since the trap may be that the stack has run out. */
uint32_t fault_stack[128] __attribute__((aligned(16)));

/*
 * First in memory, where QEMU starts. A locked physical-memory-protection entry without permissions
 * covers the 4 KiB below the stack, so that an overflow traps.
 */
__attribute__((naked, section(".vectors"), used)) void reset_handler(void)
{
    __asm__ volatile(".option push\n\t"
                     ".option norelax\n\t"
                     ".option arch, +zicsr\n\t"
                     "la sp, qcc_stack_top\n\t"
                     "la t0, trap_handler\n\t"
                     "csrw mtvec, t0\n\t"
                     "la t0, qcc_stack_low\n\t"
                     "li t1, 4096\n\t"
                     "sub t0, t0, t1\n\t"
                     "srli t0, t0, 2\n\t"
                     "ori t0, t0, 511\n\t"
                     "csrw pmpaddr0, t0\n\t"
                     "li t0, 0x98\n\t"
                     "csrw pmpcfg0, t0\n\t"
                     "la t0, board_start\n\t"
                     "jr t0\n\t"
                     ".option pop");
}

__attribute__((naked, aligned(4))) void trap_handler(void)
{
    __asm__ volatile(".option push\n\t"
                     ".option norelax\n\t"
                     ".option arch, +zicsr\n\t"
                     "la sp, fault_stack + 512\n\t"
                     "csrr a0, mcause\n\t"
                     "csrr a1, mepc\n\t"
                     "la t0, trap_report\n\t"
                     "jr t0\n\t"
                     ".option pop");
}

__attribute__((used)) void trap_report(uint32_t cause, uint32_t address)
{
    board_fault(cause, address);
}

int32_t semihost_call(uint32_t operation, const void *argument)
{
    register uint32_t a0 __asm__("a0") = operation;
    register const void *a1 __asm__("a1") = argument;

    /*
     * The two shifts around ebreak mark it as a semihosting call. All three are uncompressed and,
     * by their alignment, on one page: across two pages QEMU takes ebreak for a breakpoint.
     */
    __asm__ volatile(".balign 16\n\t"
                     ".option push\n\t"
                     ".option norvc\n\t"
                     "slli zero, zero, 0x1f\n\t"
                     "ebreak\n\t"
                     "srai zero, zero, 7\n\t"
                     ".option pop"
                     : "+r"(a0)
                     : "r"(a1)
                     : "memory");
    return (int32_t)a0;
}
