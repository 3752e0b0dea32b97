"""From blocks to instructions to cycles, without an emulator."""

from __future__ import annotations

import pytest

from qcc.profiling import qemu
from qcc.profiling.counts import Block, Region, regions, steps
from qcc.profiling.cycles import classify, model_of, registers
from qcc.profiling.disassembly import Disassembly, Instruction, parse
from qcc.profiling.flash import Placed, parse_map, table_owners

LISTING = """
x.elf:     file format elf32-littlearm

Disassembly of section .text:

00000100 <f>:
     100:\t2300      \tmovs\tr3, #0
     102:\t6801      \tldr\tr1, [r0, #0]
     104:\tf8d0 2004 \tldr.w\tr2, [r0, #4]
     108:\t3b01      \tsubs\tr3, #1
     10a:\td1fa      \tbne.n\t102 <f+0x2>
     10c:\t4770      \tbx\tlr
     10e:\t0000      \t.short\t0x0000
     110:\t00000120 \t.word\t0x00000120
     114:\te8bd 8010 \tldmia.w\tsp!, {r4, pc}\t@ a comment
"""


@pytest.fixture
def code() -> Disassembly:
    return Disassembly(parse(LISTING))


def instruction(text: str) -> Instruction:
    mnemonic, _, operands = text.partition(" ")
    return Instruction(0, 2, mnemonic, operands)


def test_a_listing_is_read_without_its_data(code: Disassembly) -> None:
    assert [(i.address, i.size) for i in code.instructions] == [
        (0x100, 2), (0x102, 2), (0x104, 4), (0x108, 2), (0x10A, 2), (0x10C, 2), (0x114, 4),
    ]  # fmt: skip
    assert code.instructions[4] == Instruction(0x10A, 2, "bne.n", "102")
    assert code.instructions[-1].operands == "sp!, {r4, pc}"
    assert [i.address for i in code.within(0x102, 6)] == [0x102, 0x104]
    found, before = code.pair(0x114)
    assert (found.mnemonic, before) == ("ldmia.w", None)


WHOLE = [
    Block(0x100, 0x10C, 1, 1, 1, 5),
    Block(0x102, 0x10C, 1, 9, 8, 4),
    Block(0x10C, 0x10E, 1, 1, 1),
]
SPLIT = [
    Block(0x100, 0x103, 1, 1, 0, 2), Block(0x104, 0x108, 1, 10, 0), Block(0x102, 0x104, 1, 9, 0),
    Block(0x108, 0x10B, 1, 10, 9, 2), Block(0x10C, 0x10D, 1, 1, 1, 1),
]  # fmt: skip
"""Ten turns of the loop, as two engines might cut it into blocks."""


@pytest.mark.parametrize("blocks", [WHOLE, SPLIT], ids=["whole", "split"])
def test_how_blocks_are_cut_does_not_matter(code: Disassembly, blocks: list[Block]) -> None:
    nothing, region = regions(blocks, code, 2)
    assert not nothing.executed
    assert region.executed == {
        0x100: 1, 0x102: 10, 0x104: 10, 0x108: 10, 0x10A: 10, 0x10C: 1,
    }  # fmt: skip
    found = {s.instruction.address: s for s in steps(region, code)}
    assert (found[0x102].after_previous, found[0x102].after_jump) == (1, 9)
    assert (found[0x104].after_previous, found[0x104].after_jump) == (10, 0)
    assert found[0x10A].taken == 9
    assert (found[0x10C].after_previous, found[0x10C].after_jump) == (1, 0)
    m4 = model_of("cortex-m4")
    assert m4 is not None
    # movs 1; ten times ldr 2, ldr behind it 1, subs 1, bne 1; nine taken 2 more each; bx 3.
    assert m4.cycles(found.values()) == 1 + 10 * (2 + 1 + 1 + 1) + 9 * 2 + 3


def test_code_that_is_both_fallen_into_and_jumped_to(code: Disassembly) -> None:
    """Of four runs of bx one came from the branch before it, which was taken nine times of ten."""
    (region,) = regions([Block(0x102, 0x10C, 0, 10, 9), Block(0x10C, 0x10E, 0, 4, 4)], code, 1)
    last = steps(region, code)[-1]
    assert (last.after_previous, last.after_jump) == (1, 3)


def test_blocks_of_another_program_are_refused(code: Disassembly) -> None:
    with pytest.raises(ValueError, match="no instruction at 0x106"):
        regions([Block(0x106, 0x10A, 0, 1, 0)], code, 1)
    with pytest.raises(ValueError, match="3 instructions, not 2"):
        regions([Block(0x100, 0x108, 0, 1, 0, 2)], code, 1)


def test_regions_that_end_between_two_instructions(code: Disassembly) -> None:
    """More fell through than ran here: the rest ran in another region."""
    region = Region()
    region.executed.update({0x100: 5, 0x102: 2})
    _, second = steps(region, code)
    assert (second.after_previous, second.after_jump) == (2, 0)


def test_a_line_of_the_plugin() -> None:
    assert qemu.parse("256 268 5 3 100 7\n") == Block(0x100, 0x10D, 3, 100, 7, 5)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("ldrsb.w r2, [r3, #384]", "load"), ("strb.w r2, [r3], #1", "store"),
        ("ldrd r0, r1, [sp]", "double"), ("push {r4, lr}", "multiple"),
        ("pop {r4, pc}", "return"), ("pop {r4, r5}", "multiple"), ("bx lr", "return"),
        ("ldmia.w sp!, {r4, pc}", "return"), ("bl 100", "call"), ("blx r3", "call"),
        ("bls.n 100", "branch"), ("blt.n 100", "branch"), ("ble.n 100", "branch"),
        ("le lr, 100", "branch"), ("letp lr, 100", "branch"), ("b.w 100", "branch"),
        ("cbnz r0, 100", "branch"), ("bic.w r0, r1, #3", "other"), ("it ge", "if-then"),
        ("itete ne", "if-then"), ("wlstp.8 lr, r0, 100", "branch"), ("dls lr, r0", "loop"),
        ("smlad r0, r1, r2, r0", "multiply-add"), ("smlabb r0, r1, r2, r3", "multiply-add"),
        ("muls r0, r1", "multiply"), ("smull r0, r1, r2, r3", "multiply"),
        ("udiv r0, r1, r2", "divide"), ("usat r0, #8, r0", "saturate"),
        ("ssat16 r0, #8, r0", "saturate"), ("sxtb16 r0, r1, ror #8", "pack"),
        ("pkhbt r0, r1, r2", "pack"), ("uadd8 r0, r1, r2", "pack"),
        ("vldrb.u8 q0, [r0], #16", "vector load"), ("vstrw.32 q0, [r0]", "vector store"),
        ("vmladava.s8 lr, q0, q1", "vector multiply"), ("vmull.s8 q0, q1, q2", "vector multiply"),
        ("vqrdmulh.s32 q0, q1, r2", "vector multiply"), ("vadd.i32 q0, q1, q2", "vector"),
        ("nop", "system"), ("movs r0, #1", "other"), ("adds r0, #1", "other"),
    ],
)  # fmt: skip
def test_kinds_of_instructions(text: str, kind: str) -> None:
    assert classify(instruction(text)) == kind


@pytest.mark.parametrize(
    ("text", "count"), [("{r4, lr}", 2), ("{r4-r7, r9, pc}", 6), ("{r8-sl}", 3), ("r0", 1),
                        ("r0!, {s16-s19}", 4), ("{r4, r5, fp, ip}", 4)],
)  # fmt: skip
def test_lengths_of_register_lists(text: str, count: int) -> None:
    assert registers(text) == count


LOAD, OTHER_LOAD = "ldr r0, [r1, #4]", "ldr r2, [r3, #4]"


@pytest.mark.parametrize(
    ("core", "before", "text", "cycles", "taken"),
    [
        ("cortex-m0", LOAD, OTHER_LOAD, 2, 0), ("cortex-m0", None, "muls r0, r1", 1, 0),
        ("cortex-m0", None, "push {r4, r5, lr}", 4, 0), ("cortex-m0", None, "pop {r4, pc}", 5, 0),
        ("cortex-m0", None, "bne.n 100", 1, 2), ("cortex-m0", None, "b.n 100", 3, 0),
        ("cortex-m0", None, "bl 100", 4, 0), ("cortex-m0", None, "bx lr", 3, 0),
        ("cortex-m0plus", None, "bne.n 100", 1, 1), ("cortex-m0plus", None, "bl 100", 3, 0),
        ("cortex-m3", None, "mla r0, r1, r2, r3", 2, 0), ("cortex-m3", None, "mul r0, r1", 1, 0),
        ("cortex-m3", None, "smull r0, r1, r2, r3", 4, 0),
        ("cortex-m3", None, "smlal r0, r1, r2, r3", 5, 0),
        ("cortex-m4", None, LOAD, 2, 0), ("cortex-m4", LOAD, OTHER_LOAD, 1, 0),
        ("cortex-m4", LOAD, "ldr r2, [r0, #4]", 2, 0),
        ("cortex-m4", LOAD, "ldr r2, [r3], #4", 2, 0),
        ("cortex-m4", "ldr r0, [r1], #4", OTHER_LOAD, 2, 0),
        ("cortex-m4", None, "ldr pc, [r0]", 4, 0), ("cortex-m4", None, "str r0, [r1, #4]", 1, 0),
        ("cortex-m4", None, "str r0, [r1, r2]", 2, 0),
        ("cortex-m4", LOAD, "str r0, [r1, r2]", 1, 0),
        ("cortex-m4", None, "smlad r0, r1, r2, r0", 1, 0),
        ("cortex-m4", None, "smlal r0, r1, r2, r3", 1, 0), ("cortex-m4", None, "bne.n 100", 1, 2),
        ("cortex-m4", None, "bl 100", 3, 0), ("cortex-m4", None, "pop {r4, pc}", 5, 0),
        ("cortex-m4", None, "stmia r0!, {r1, r2}", 3, 0),
        ("cortex-m4", None, "sdiv r0, r1, r2", 6, 0),
        ("cortex-m4", None, "tbb [pc, r0]", 4, 0), ("cortex-m4", None, "ldrd r0, r1, [r2]", 3, 0),
        ("cortex-m4", None, "vldr s0, [r0]", 2, 0), ("cortex-m4", None, "vldmia r0, {s0-s3}", 5, 0),
        ("cortex-m55", None, "vldrb.u8 q0, [r0]", 2, 0),
        ("cortex-m55", "vldrb.u8 q0, [r0]", "vmladava.s8 lr, q0, q1", 1, 0),
        ("cortex-m55", "vldrb.u8 q0, [r0]", "vldrb.u8 q1, [r0, #16]", 2, 0),
        ("cortex-m55", None, "le lr, 100", 1, 0), ("cortex-m55", None, "add r0, r1", 1, 0),
    ],
)  # fmt: skip
def test_cycles_of_instructions(
    core: str, before: str | None, text: str, cycles: int, taken: int
) -> None:
    model = model_of(core)
    assert model is not None
    cost = model.cost(instruction(text), None if before is None else instruction(before))
    assert (cost.cycles, cost.taken) == (cycles, taken)


@pytest.mark.parametrize("core", ["cortex-m7", "cortex-m33", "rv32imac"])
def test_no_model_is_made_up(core: str) -> None:
    assert model_of(core) is None


MAP = """
Discarded input sections

 .text.gone     0x00000000       0x10 /tmp/a b/0-net.o

Linker script and memory map

                0x00000000                . = ASSERT
.text           0x00000100      0x230
 *(.text .text.*)
 .text.net_run  0x00000100       0x40 /tmp/a b/0-net.o
                0x00000100                net_run
 .text.a_function_with_a_very_long_name
                0x00000140       0x20 /tmp/a b/0-net.o
 *fill*         0x00000160        0x4
 .text          0x00000164        0x0 /tmp/a b/0-net.o
 .rodata.net_w  0x00000168       0x90 /tmp/a b/0-net.o
 .text          0x00000200       0x2e /usr/lib/gcc/libgcc.a(_udivsi3.o)
"""


def test_a_map_is_read() -> None:
    net = "/tmp/a b/0-net.o"
    assert parse_map(MAP) == [
        Placed(".text.net_run", 0x100, 0x40, net),
        Placed(".text.a_function_with_a_very_long_name", 0x140, 0x20, net),
        Placed(".rodata.net_w", 0x168, 0x90, net),
        Placed(".text", 0x200, 0x2E, "/usr/lib/gcc/libgcc.a(_udivsi3.o)"),
    ]


def test_tables_belong_to_the_layer_with_the_longest_name_that_fits() -> None:
    tables = [(".rodata.net_conv_w", 1), (".rodata.net_conv_1_w", 2), (".rodata.net_conv_10_w", 4),
              (".rodata.net_other", 8), (".rodata", 16), (".srodata.net_conv_1_b", 32)]  # fmt: skip
    placed = [Placed(name, 0, size, "net.o") for name, size in tables]
    for order in ([0, 1, 2], [2, 1, 0]):
        names = ["net_conv", "net_conv_1", "net_conv_10"]
        owners, rest = table_owners(placed, [names[i] for i in order])
        assert {names[i]: owners[k] for k, i in enumerate(order)} == {
            "net_conv": 1, "net_conv_1": 34, "net_conv_10": 4,
        }  # fmt: skip
        assert rest == 24
