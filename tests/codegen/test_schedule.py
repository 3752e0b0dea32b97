"""The order of the layers: one with the lowest peak, by comparison with every order."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcc.codegen.memory import Item, Overlap, plan
from qcc.codegen.schedule import Step, schedule


@st.composite
def networks(draw: st.DrawFn) -> tuple[list[Step], dict[str, int], list[str], list[str]]:
    """(steps, sizes, inputs, outputs): a random DAG; some steps write parts of one buffer."""
    names = [f"in{i}" for i in range(draw(st.integers(1, 2)))]
    inputs, steps = list(names), []
    parts: list[str] = []
    for i in range(draw(st.integers(0, 7))):
        reads = tuple(draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True)))
        whole = draw(st.sampled_from(["own", "own", "own", "part"]))
        writes = "joined" if whole == "part" else f"t{i}"
        leads = {b: draw(st.sampled_from([0, 10, 40])) for b in reads if draw(st.booleans())}
        steps.append(Step(reads, writes, draw(st.sampled_from([0, 0, 20])), leads))
        if whole == "part":
            parts.append(writes)
        else:
            names.append(writes)
    if parts:
        steps.append(Step(("joined",), "end"))
    buffers = sorted({*inputs, *(s.writes for s in steps)})
    sizes = {b: draw(st.integers(0, 100)) for b in buffers}
    outputs = [b for b in buffers if draw(st.integers(0, 3)) == 0]
    return steps, sizes, inputs, outputs


def orders(steps: Sequence[Step]) -> Iterator[tuple[int, ...]]:
    """Every order that respects the data flow."""

    def extend(done: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if len(done) == len(steps):
            yield done
        for i in set(range(len(steps))) - set(done):
            needs = {j for j, s in enumerate(steps) for b in steps[i].reads if s.writes == b}
            if needs <= set(done):
                yield from extend((*done, i))

    return extend(())


def items(
    steps: Sequence[Step],
    sizes: dict[str, int],
    inputs: Sequence[str],
    outputs: Sequence[str],
    order: Sequence[int],
) -> list[Item]:
    """What the memory plan is asked for in that order; an input is there before the first step."""
    first: dict[str, int] = dict.fromkeys(inputs, -1)
    last: dict[str, int] = dict.fromkeys(inputs, -1)
    overlaps: dict[str, tuple[Overlap, ...]] = {}
    for at, i in enumerate(order):
        step = steps[i]
        for b in (*step.reads, step.writes):
            if b not in first:
                overlaps[b] = tuple(Overlap(o, lead) for o, lead in step.leads.items())
            first.setdefault(b, at)
            last[b] = at
    last.update(dict.fromkeys(outputs, len(steps)))
    made = [Item(b, sizes[b], first[b], last[b], overlaps.get(b, ())) for b in first]
    scratch = [Item(f"scratch {i}", steps[i].scratch, at, at) for at, i in enumerate(order)]
    return made + scratch


@given(networks())
@settings(deadline=None, max_examples=100)
def test_peak_is_the_lowest_of_all_orders(
    network: tuple[list[Step], dict[str, int], list[str], list[str]],
) -> None:
    steps, sizes, inputs, outputs = network
    result = schedule(steps, sizes, inputs, outputs)
    assert result.proved
    assert result.order in set(orders(steps))

    def peak(order: Sequence[int]) -> int:
        # The planner's own bound, by its other way of counting; exact where it is not better.
        return live_bound(items(steps, sizes, inputs, outputs, order))

    assert result.peak == peak(result.order) == min(map(peak, orders(steps)))
    if result.peak == peak(range(len(steps))):
        assert result.order == tuple(range(len(steps)))


def live_bound(wanted: Sequence[Item]) -> int:
    """The bound from live bytes alone, without the exact search."""
    from qcc.codegen import memory

    blocks = memory._blocks(wanted, 1)
    memory._find_overlaps(blocks, 1)
    return memory._bound(blocks)


@given(networks())
@settings(deadline=None, max_examples=50)
def test_no_plan_is_below_the_peak(
    network: tuple[list[Step], dict[str, int], list[str], list[str]],
) -> None:
    steps, sizes, inputs, outputs = network
    result = schedule(steps, sizes, inputs, outputs)
    assert plan(items(steps, sizes, inputs, outputs, result.order), 1).bound >= result.peak


def test_a_branch_that_ends_small_runs_first() -> None:
    # x -> big a -> small b; x -> big c -> small d; given interleaved, both big at once.
    sizes = {"x": 10, "a": 100, "b": 5, "c": 100, "d": 5, "y": 10}
    steps = [
        Step(("x",), "a"), Step(("x",), "c"), Step(("a",), "b"), Step(("c",), "d"),
        Step(("b", "d"), "y"),
    ]  # fmt: skip
    result = schedule(steps, sizes, ["x"], ["y"])
    assert result.order == (0, 2, 1, 3, 4)
    assert (result.peak, result.proved) == (115, True)


def test_what_may_be_written_over_decides() -> None:
    # Only c can lie over x, and only as its last reader.
    sizes = {"x": 100, "c": 100, "d": 10}
    steps = [Step(("x",), "c", leads={"x": 0}), Step(("x",), "d")]
    result = schedule(steps, sizes, ["x"], ["c", "d"])
    assert result.order == (1, 0)
    assert result.peak == 110


def test_scratch_counts() -> None:
    sizes = {"x": 10, "a": 50, "b": 20, "y": 1}
    steps = [Step(("x",), "a"), Step(("x",), "b", scratch=100), Step(("a", "b"), "y")]
    result = schedule(steps, sizes, ["x"], ["y"])
    assert result.order == (1, 0, 2)
    assert result.peak == 130


def test_parts_of_one_buffer_are_written_before_it_is_read() -> None:
    sizes = {"x": 10, "a": 50, "b": 50, "whole": 20, "y": 1}
    steps = [
        Step(("x",), "a"), Step(("x",), "b"), Step(("a",), "whole"), Step(("b",), "whole"),
        Step(("whole",), "y"),
    ]  # fmt: skip
    result = schedule(steps, sizes, ["x"], ["y"])
    assert result.order == (0, 2, 1, 3, 4)
    assert result.peak == 80


def test_the_given_order_stays_where_none_is_better() -> None:
    sizes = {"x": 10, "a": 10, "b": 10, "y": 10}
    steps = [Step(("x",), "b"), Step(("x",), "a"), Step(("a", "b"), "y")]
    assert schedule(steps, sizes, ["x"], ["y"]).order == (0, 1, 2)


def branches(count: int, seed: int) -> tuple[list[Step], dict[str, int]]:
    """*count* branches of three layers from one tensor, layer by layer, joined at the end."""
    rng = random.Random(seed)
    sizes, steps, ends = {"x": 50, "y": 1}, [], []
    for depth in range(3):
        for b in range(count):
            name = f"b{b}.{depth}"
            sizes[name] = rng.randrange(1, 100)
            steps.append(Step((f"b{b}.{depth - 1}" if depth else "x",), name))
    ends = [f"b{b}.2" for b in range(count)]
    return [*steps, Step(tuple(ends), "y")], sizes


def test_a_beam_claims_no_proof_and_is_no_worse_than_the_given_order() -> None:
    for seed in range(5):
        steps, sizes = branches(8, seed)
        beam = schedule(steps, sizes, ["x"], ["y"], states=1)
        best = schedule(steps, sizes, ["x"], ["y"], states=1_000_000)
        assert best.proved
        given_order = live_bound(items(steps, sizes, ["x"], ["y"], range(len(steps))))
        assert best.peak <= beam.peak <= given_order
        assert best.peak < given_order
        if not beam.proved:
            break
    else:
        pytest.fail("the beam was never narrow")


def test_the_order_is_deterministic() -> None:
    steps, sizes = branches(6, 9)
    assert schedule(steps, sizes, ["x"], ["y"]) == schedule(steps, sizes, ["x"], ["y"])


def test_hundreds_of_layers_are_quick() -> None:
    sizes = {f"t{i}": 1 + i % 7 for i in range(600)}
    steps = [Step((f"t{i}",), f"t{i + 1}") for i in range(599)]
    assert schedule(steps, sizes, ["t0"], ["t599"]).proved


def test_nothing_to_order() -> None:
    assert schedule([], {}).order == ()
