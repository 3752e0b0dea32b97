/**
 * @file start.h
 * @brief Between the start-up code of an architecture and what all boards share.
 */
#ifndef QCC_START_H
#define QCC_START_H

#include <stdint.h>

/** Exit status after a processor fault or a stack overflow; the check program itself ends with 0 or 1. */
#define BOARD_EXIT_FAULT 99

/** Operations of the Arm semihosting interface, which RISC-V has taken over. */
#define SEMIHOST_WRITE0 0x04u
#define SEMIHOST_EXIT_EXTENDED 0x20u

/** Ask the debugger or emulator to do @p operation; per architecture. */
int32_t semihost_call(uint32_t operation, const void *argument);

/** Set up memory, run main() and end with its value. Called on the stack, which is empty. */
void board_start(void);

/** Report a processor fault and end with BOARD_EXIT_FAULT. */
void board_fault(uint32_t cause, uint32_t address);

#endif /* QCC_START_H */
