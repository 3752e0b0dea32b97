/*
 * qcc_mark(layer): between two layers of a model that is being measured.
 *
 * Calls qcc_profile_switch(layer, stack pointer) on a stack of its own: nothing is written below the
 * caller's stack pointer, so what is found there was written by the layer.
 */
    .section .text.qcc_mark, "ax", %progbits
    .globl qcc_mark
    .type qcc_mark, %function

#if defined(__riscv)

    .balign 4
qcc_mark:
    mv a1, sp
    la sp, qcc_profile_stack_end
    addi sp, sp, -16
    sw a1, 0(sp)
    sw ra, 4(sp)
    call qcc_profile_switch
    lw ra, 4(sp)
    lw sp, 0(sp)
    ret

#elif defined(__arm__) && defined(__thumb__)

    .syntax unified
    .thumb
    .balign 4
    .thumb_func
qcc_mark:
    mov r1, sp
    ldr r2, =qcc_profile_stack_end
    mov sp, r2
    push {r1, lr}
    bl qcc_profile_switch
    pop {r1, r2}
    mov sp, r1
    bx r2
    .ltorg

#else
#error "qcc_mark: no code for this processor"
#endif

    .size qcc_mark, . - qcc_mark

    .section .bss.qcc_profile_stack, "aw", %nobits
    .balign 16
    .zero 1024
qcc_profile_stack_end:
