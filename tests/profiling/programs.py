"""Folders to profile: networks that qcc compiles, and one by hand whose counts are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qcc.codegen.render import render
from qcc.codegen.write import write_files
from qcc.driver import output_files
from tests.networks import compilation

TURNS = (1000, 50000)
"""Turns of the loops in the two layers."""

FRAME = 400
"""Bytes on the stack that the second layer uses."""

PER_TURN = 3
"""Instructions of a turn: nop, subtract, branch."""

_HEADER = """
#ifndef LOOPS_H
#define LOOPS_H
#include <stdint.h>
#define LOOPS_ARENA_BYTES 16u
#define LOOPS_ARENA_ALIGN 4u
int loops_run(const uint8_t *x, uint8_t *y, void *arena);
#endif
"""

_SOURCE = """
#include "loops.h"

#ifdef QCC_PROFILE
void qcc_mark(int32_t layer);
#define MARK(layer) qcc_mark(layer)
#else
#define MARK(layer) ((void)0)
#endif

static const uint8_t loops_second_w[8] = {1, 2, 3, 4, 5, 6, 7, 8};

__attribute__((noinline)) static void shared_spin(uint32_t n)
{
#ifdef __riscv
    __asm__ volatile("1: nop\\n addi %0, %0, -1\\n bnez %0, 1b" : "+r"(n));
#else
    __asm__ volatile(".syntax unified\\n1: nop\\n subs %0, #1\\n bne 1b" : "+l"(n) : : "cc");
#endif
}

__attribute__((noinline)) static void loops_first(const uint8_t *x, uint8_t *y)
{
    shared_spin(FIRSTu);
    y[0] = x[0];
}

__attribute__((noinline)) static void loops_second(const uint8_t *x, uint8_t *y)
{
    volatile uint8_t used[FRAME];

    for (uint32_t i = 0u; i < sizeof used; i++) {
        used[i] = 1u;
    }
    shared_spin(SECONDu);
    y[1] = (uint8_t)(loops_second_w[x[1] & 7u] + used[3]);
}

int loops_run(const uint8_t *x, uint8_t *y, void *arena)
{
    (void)arena;
    MARK(0);
    loops_first(x, y);
    MARK(1);
    loops_second(x, y);
    MARK(-1);
    return 0;
}
"""

_VECTORS_H = """
#include <stdint.h>
#define CHECK_SAMPLES 2u
extern const uint8_t check_in0[4];
extern const uint8_t check_out0[4];
"""

_VECTORS_C = """
#include "vectors.h"
const uint8_t check_in0[4] = {7, 2, 9, 5};
const uint8_t check_out0[4] = {7, 4, 9, 7};
"""


def loops(out: Path, target: str = "cortex-m4") -> Path:
    """Write a model of two layers that spin ``TURNS`` times; what it computes is right."""
    port = {"shape": [2], "dtype": "uint8"}
    layer: dict[str, Any] = {"op": "spin", "kernel": "spin", "macs": 0}
    manifest = {
        "name": "loops", "target": target, "entry": "loops_run", "sources": ["loops.c"],
        "macs": 0, "arena_bytes": 16, "inputs": [{**port, "name": "x"}],
        "outputs": [{**port, "name": "y"}],
        "layers": [
            {**layer, "name": "first layer", "c_name": "first"},
            {**layer, "name": "second", "c_name": "second", "macs": 100},
        ],
    }  # fmt: skip
    source = _SOURCE.replace("FIRST", str(TURNS[0])).replace("SECOND", str(TURNS[1]))
    files = {
        "manifest.json": json.dumps(manifest),
        "loops.h": _HEADER,
        "loops.c": source.replace("FRAME", str(FRAME)),
        "check/vectors.h": _VECTORS_H,
        "check/vectors.c": _VECTORS_C,
        "check/compare.h": render("check_compare.h.j2"),
        "check/compare.c": render("check_compare.c.j2"),
    }
    for name, text in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text, encoding="utf-8")
    return out


def compiled(out: Path, name: str, target: str) -> Path:
    """One of ``tests.networks.NAMES``, compiled into *out*."""
    write_files(output_files(compilation(name, target)), out)
    return out
