"""The memory plan: nothing overlaps that lives together, and it is small."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcc.codegen.memory import Item, Plan, plan

sizes = st.integers(0, 300)


@st.composite
def item_lists(draw: st.DrawFn) -> list[Item]:
    """Items in execution order, some in place of or views of an earlier one."""
    items: list[Item] = []
    for i in range(draw(st.integers(0, 14))):
        first = draw(st.integers(-1, 10))
        item = Item(f"t{i}", draw(sizes), first, first + draw(st.integers(0, 5)))
        if items and (how := draw(st.sampled_from(["own", "own", "inplace", "alias"]))) != "own":
            other = draw(st.sampled_from(items)).name
            inplace, alias = (other, None) if how == "inplace" else (None, other)
            item = Item(item.name, item.bytes, item.first, item.last, inplace, alias)
        items.append(item)
    return items


def roots(items: Sequence[Item]) -> dict[str, str]:
    """Item -> the item that it is a view of in the end."""
    result: dict[str, str] = {}
    for item in items:  # a view comes after what it views here
        result[item.name] = result[item.alias_of] if item.alias_of else item.name
    return result


def check(items: Sequence[Item], result: Plan, align: int) -> None:
    """Every promise of a plan, from the items alone."""
    root = roots(items)
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(root[item.name], []).append(item)
    # A group of views lives, whole, from its first to its last step.
    spans = {
        name: Item(
            name,
            max(m.bytes for m in members),
            min(m.first for m in members),
            max(m.last for m in members),
        )
        for name, members in groups.items()
    }
    overwrites = {(root[i.inplace_of], root[i.name]) for i in items if i.inplace_of}
    for item in items:
        assert result.offsets[item.name] % align == 0
        assert result.offsets[item.name] + item.bytes <= result.total_bytes
        if spans[root[item.name]].bytes:
            assert result.offsets[item.name] == result.offsets[root[item.name]]
    for a, b in itertools.combinations(spans.values(), 2):
        live = a.first <= b.last and b.first <= a.last
        start_a, start_b = result.offsets[a.name], result.offsets[b.name]
        apart = start_a + a.bytes <= start_b or start_b + b.bytes <= start_a
        one, two = sorted((a, b), key=lambda s: s.first)
        in_place = (one.name, two.name) in overwrites and one.last == two.first
        shared = in_place and one.first < two.first and start_a == start_b
        assert not live or apart or shared or not a.bytes or not b.bytes
    assert result.total_bytes % align == 0
    assert result.total_bytes >= result.bound


@given(item_lists(), st.sampled_from([1, 4, 16]))
@settings(deadline=None, max_examples=300)
def test_what_lives_together_does_not_overlap(items: list[Item], align: int) -> None:
    check(items, plan(items, align), align)


@given(item_lists())
@settings(deadline=None, max_examples=50)
def test_plan_is_deterministic(items: list[Item]) -> None:
    assert plan(items, 8) == plan(items, 8)


@given(item_lists())
@settings(deadline=None, max_examples=100)
def test_bound_is_the_peak_of_live_bytes_without_sharing(items: list[Item]) -> None:
    own = [Item(i.name, i.bytes, i.first, i.last) for i in items]
    steps = range(-1, 20)
    live = (sum(i.bytes for i in own if i.first <= s <= i.last) for s in steps)
    assert plan(own, 1).bound == max(live)


def lowest_total(items: Sequence[Item]) -> int:
    """The optimum by trying first-fit in every order, independently of the planner."""

    def total(order: Sequence[Item]) -> int:
        placed: list[tuple[Item, int]] = []
        for item in order:
            rivals = [(o, at) for o, at in placed if o.first <= item.last and item.first <= o.last]
            spots = sorted([0, *(at + o.bytes for o, at in rivals)])
            fits = (
                spot
                for spot in spots
                if all(spot + item.bytes <= at or at + o.bytes <= spot for o, at in rivals)
            )
            placed.append((item, next(fits)))
        return max(at + i.bytes for i, at in placed)

    return min(total(order) for order in itertools.permutations(items))


@pytest.mark.parametrize("seed", range(25))
def test_small_plans_are_optimal(seed: int) -> None:
    rng = random.Random(seed)
    starts = [rng.randrange(6) for _ in range(rng.randrange(3, 7))]
    items = [
        Item(f"t{i}", rng.randrange(1, 50), a, a + rng.randrange(5)) for i, a in enumerate(starts)
    ]
    assert plan(items, 1).total_bytes == lowest_total(items)


def test_a_chain_takes_its_two_largest_neighbours_and_no_more() -> None:
    rng = random.Random(1)
    items = [Item(f"t{i}", rng.randrange(1, 9999), i, i + 1) for i in range(2000)]
    result = plan(items, 1)
    assert result.total_bytes == result.bound
    assert result.bound == max(a.bytes + b.bytes for a, b in itertools.pairwise(items))


def test_residual_networks_meet_the_bound() -> None:
    rng = random.Random(2)
    items = [
        Item(f"t{i}", 64 * rng.randrange(1, 200), i, i + (3 if i % 3 == 0 else 1))
        for i in range(60)
    ]
    result = plan(items, 16)
    check(items, result, 16)
    assert result.total_bytes == result.bound


def test_in_place_output_takes_the_place_of_its_input() -> None:
    items = [Item("x", 100, 0, 1), Item("y", 100, 1, 2, inplace_of="x")]
    result = plan(items, 4)
    assert result.offsets == {"x": 0, "y": 0}
    assert result.total_bytes == result.bound == 100


def test_input_that_lives_on_is_not_overwritten() -> None:
    items = [Item("x", 100, 0, 2), Item("y", 100, 1, 2, inplace_of="x")]
    assert plan(items, 4).total_bytes == 200


def test_input_whose_view_lives_on_is_not_overwritten() -> None:
    items = [
        Item("x", 100, 0, 1),
        Item("v", 100, 1, 3, alias_of="x"),
        Item("y", 100, 1, 3, inplace_of="x"),
    ]
    result = plan(items, 4)
    assert result.offsets["v"] == result.offsets["x"] != result.offsets["y"]


def test_two_outputs_do_not_both_overwrite_one_input() -> None:
    items = [
        Item("x", 100, 0, 1),
        Item("y", 100, 1, 2, inplace_of="x"),
        Item("z", 100, 1, 2, inplace_of="x"),
    ]
    result = plan(items, 4)
    assert result.offsets["y"] == result.offsets["x"] != result.offsets["z"]


def test_small_output_in_place_of_a_large_input_frees_the_rest() -> None:
    items = [
        Item("x", 1000, 0, 1),
        Item("y", 100, 1, 9, inplace_of="x"),
        Item("z", 900, 2, 3),
    ]
    assert plan(items, 4).total_bytes == 1000


def test_neighbour_keeps_clear_of_the_largest_part_it_lives_with() -> None:
    items = [
        Item("x", 1000, 0, 1),
        Item("y", 100, 1, 9, inplace_of="x"),
        Item("z", 52, 0, 9),
    ]
    for order in itertools.permutations(items):
        result = plan(order, 4)
        check(order, result, 4)
        assert result.total_bytes == result.bound == 1052


def test_nothing_needs_nothing() -> None:
    assert plan([], 16) == Plan({}, 0, 0)
    assert plan([Item("x", 0, 0, 9)], 16) == Plan({"x": 0}, 0, 0)


@pytest.mark.parametrize(
    "items",
    [
        [Item("x", 1, 0, 1), Item("x", 1, 0, 1)],
        [Item("x", 1, 2, 1)],
        [Item("x", -1, 0, 1)],
        [Item("x", 1, 0, 1, inplace_of="y")],
        [Item("x", 1, 0, 1, alias_of="x")],
        [Item("x", 1, 0, 1, alias_of="y"), Item("y", 1, 0, 1, alias_of="x")],
    ],
)
def test_contradictions_are_refused(items: list[Item]) -> None:
    with pytest.raises(ValueError, match="item"):
        plan(items, 1)


def test_alignment_is_positive() -> None:
    with pytest.raises(ValueError, match="alignment 0"):
        plan([], 0)
