"""The memory plan: nothing spoils another that lives at the same time, and it is small."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcc.codegen import memory
from qcc.codegen.memory import Item, Overlap, Plan, plan, shared_bytes

sizes = st.integers(0, 300)


@st.composite
def item_lists(draw: st.DrawFn, most: int = 14) -> list[Item]:
    """Items in execution order, some over, in place of, or views of earlier ones."""
    items: list[Item] = []
    for i in range(draw(st.integers(0, most))):
        first = draw(st.integers(-1, 10))
        name, size, last = f"t{i}", draw(sizes), first + draw(st.integers(0, 5))
        how = draw(st.sampled_from(["own", "over", "over", "view"])) if items else "own"
        if how == "view":
            view_of, at = draw(st.sampled_from(items)).name, draw(st.integers(0, 200))
            items.append(Item(name, size, first, last, alias_of=view_of, at=at))
            continue
        dying = [other.name for other in items if other.first < first == other.last]
        if how == "over" and dying and not draw(st.booleans()):
            dying = [draw(st.sampled_from(items)).name]  # mostly of no effect
        leads = [draw(st.sampled_from([0, 0, 7, 40, 1000])) for _ in dying]
        overlaps = tuple(map(Overlap, dying, leads)) if how == "over" else ()
        items.append(Item(name, size, first, last, overlaps))
    return items


def roots(items: Sequence[Item]) -> dict[str, str]:
    """Item -> the item that it is a view of in the end."""
    result: dict[str, str] = {}
    for item in items:  # a view comes after what it views here
        result[item.name] = result[item.alias_of] if item.alias_of else item.name
    return result


def check(items: Sequence[Item], result: Plan, align: int) -> None:
    """Every promise of a plan, from the items alone."""
    root, by_name = roots(items), {item.name: item for item in items}
    life = {
        name: (
            min(i.first for i in items if root[i.name] == name),
            max(i.last for i in items if root[i.name] == name),
        )
        for name in set(root.values())
    }
    held = {  # views of nothing take no room, and may be anywhere
        name for name in life if any(i.bytes for i in items if root[i.name] == name)
    }
    for item in items:
        at = result.offsets[item.name]
        assert at + item.bytes <= result.total_bytes or not item.bytes
        if root[item.name] not in held:
            continue
        if item.alias_of:
            assert at == result.offsets[item.alias_of] + item.at
        else:
            assert at % align == 0
    for a, b in itertools.combinations([i for i in items if i.bytes], 2):
        if root[a.name] == root[b.name]:
            continue
        one, two = sorted((a, b), key=lambda i: life[root[i.name]])
        (start, end), (begin, finish) = life[root[one.name]], life[root[two.name]]
        if begin > end or start > finish:
            continue
        low, high = result.offsets[one.name], result.offsets[two.name]
        if low + one.bytes <= high or high + two.bytes <= low:
            continue
        # They overlap: only where the later begins as the earlier ends, and only as declared,
        # or where the two parts in question do not meet in time.
        assert start < begin == end
        if one.last == end and two.first == begin:
            lead = next(o.lead for o in two.overlaps if o.other == one.name)
            assert low >= high + lead
    assert result.total_bytes % align == 0
    assert 0 <= result.gap == result.total_bytes - result.bound
    assert by_name.keys() == result.offsets.keys()


@given(item_lists(), st.sampled_from([1, 4, 16]))
@settings(deadline=None, max_examples=200)
def test_what_lives_together_does_not_spoil_another(items: list[Item], align: int) -> None:
    check(items, plan(items, align), align)


@given(item_lists())
@settings(deadline=None, max_examples=30)
def test_plan_is_deterministic(items: list[Item]) -> None:
    assert plan(items, 8) == plan(items, 8)


@given(item_lists(most=8))
@settings(deadline=None, max_examples=100)
def test_bound_is_at_least_the_peak_of_live_bytes_without_sharing(items: list[Item]) -> None:
    own = [Item(i.name, i.bytes, i.first, i.last) for i in items]
    live = (sum(i.bytes for i in own if i.first <= s <= i.last) for s in range(-1, 20))
    assert plan(own, 1).bound >= max(live)


def clearance(above: Item, below: Item) -> int:
    """Least difference of offsets when *above* lies above *below*, without views."""
    if above.first < below.first == above.last:
        for o in below.overlaps:
            if o.other == above.name:
                return min(o.lead, below.bytes)
    return below.bytes


def lowest_total(items: Sequence[Item]) -> int:
    """The optimum by stacking in every order, independently of the planner."""

    def total(order: Sequence[Item]) -> int:
        placed: list[tuple[Item, int]] = []
        for item in order:
            rivals = [(o, at) for o, at in placed if o.first <= item.last and item.first <= o.last]
            placed.append((item, max([at + clearance(item, o) for o, at in rivals], default=0)))
        return max(at + i.bytes for i, at in placed)

    return min(total(order) for order in itertools.permutations(items))


@pytest.mark.parametrize("seed", range(40))
def test_small_plans_are_optimal_and_proved(seed: int) -> None:
    rng = random.Random(seed)
    items: list[Item] = []
    for i in range(rng.randrange(3, 8)):
        first = rng.randrange(6)
        dying = [o.name for o in items if o.first < first == o.last]
        overlaps = tuple(Overlap(o, rng.choice([0, 0, 5, 20])) for o in dying)
        size = rng.randrange(1, 50)
        items.append(Item(f"t{i}", size, first, first + rng.randrange(5), overlaps))
    result = plan(items, 1)
    check(items, result, 1)
    assert result.total_bytes == lowest_total(items)
    assert result.gap == 0


def test_the_exact_search_proves_what_the_live_bytes_cannot() -> None:
    gaps = 0
    for seed in range(60):
        rng = random.Random(seed)
        items: list[Item] = []
        for i in range(7):
            dying = [o.name for o in items if o.first < i == o.last]
            overlaps = tuple(Overlap(o, rng.choice([0, 16])) for o in dying)
            items.append(Item(f"t{i}", 8 * rng.randrange(1, 9), i, i + rng.randrange(4), overlaps))
        result = plan(items, 8)
        assert result.total_bytes == result.bound == lowest_total(items)
        by_name = {i.name: i for i in items}
        live = max(
            sum(i.bytes for i in items if i.first <= s <= i.last)
            - sum(
                shared_bytes(
                    i.bytes,
                    [(by_name[o.other].bytes, o.lead) for o in i.overlaps],
                )
                for i in items
                if i.first == s
            )
            for s in range(12)
        )
        assert live <= result.bound
        gaps += live < result.bound
    assert gaps  # what one step allows, the steps together do not: x has to be in one place


def test_without_the_exact_search_plans_are_as_good(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(3)
    for _ in range(20):
        items: list[Item] = []
        for i in range(10):
            dying = [o.name for o in items if o.first < i == o.last]
            overlaps = tuple(Overlap(o, rng.choice([0, 16])) for o in dying)
            items.append(Item(f"t{i}", 8 * rng.randrange(1, 9), i, i + rng.randrange(4), overlaps))
        best = plan(items, 8)
        with monkeypatch.context() as m:
            m.setattr(memory, "_EXACT_BLOCKS", 0)
            found = plan(items, 8)
        check(items, found, 8)
        assert found.bound <= best.bound
        assert found.total_bytes == best.total_bytes


def test_an_exact_search_that_gives_up_claims_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(5)
    monkeypatch.setattr(memory, "_EXACT_WORK", 50)
    for _ in range(50):
        items = [
            Item(f"t{i}", rng.randrange(1, 30), a, a + rng.randrange(5))
            for i, a in enumerate(rng.choices(range(8), k=8))
        ]
        result = plan(items, 1)
        check(items, result, 1)
        live = max(sum(i.bytes for i in items if i.first <= s <= i.last) for s in range(13))
        assert result.bound == live


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


def test_a_long_chain_in_place_takes_its_largest_tensor() -> None:
    rng = random.Random(4)
    items = [
        Item(f"t{i}", 8 * rng.randrange(80), i, i + 1, (Overlap(f"t{i - 1}"),) if i else ())
        for i in range(300)
    ]
    result = plan(items, 8)
    check(items, result, 8)
    assert result.total_bytes == result.bound
    assert result.bound == max(i.bytes for i in items)


def test_residual_blocks_that_overlap_meet_the_bound() -> None:
    # x -> widen (lead) -> in place -> narrow -> add over either operand, many times over.
    items, x, step = [Item("x", 800, 0, 4)], "x", 1
    for n in range(30):
        a, b, c, y = (f"{kind}{n}" for kind in "abcy")
        items += [
            Item(a, 1600, step, step + 1),
            Item(b, 1600, step + 1, step + 2, (Overlap(a),)),
            Item(c, 800, step + 2, step + 3, (Overlap(b),)),
            Item(y, 800, step + 3, step + 7, (Overlap(c), Overlap(x))),
        ]
        x, step = y, step + 4
    result = plan(items, 8)
    check(items, result, 8)
    assert result.total_bytes == result.bound == 2400


def test_in_place_output_takes_the_place_of_its_input() -> None:
    items = [Item("x", 100, 0, 1), Item("y", 100, 1, 2, (Overlap("x"),))]
    result = plan(items, 4)
    assert result.offsets == {"x": 0, "y": 0}
    assert result.total_bytes == result.bound == 100


def test_a_widening_layer_lies_its_lead_below_its_input() -> None:
    # 10 pixels from 8 to 12 bytes: pixel n is read at lead + 8 n and written up to 12 (n + 1).
    items = [Item("x", 80, 0, 1), Item("y", 120, 1, 2, (Overlap("x", 40),))]
    result = plan(items, 8)
    assert result.offsets == {"y": 0, "x": 40}
    assert result.total_bytes == result.bound == 120


def test_a_lead_is_rounded_up_to_the_alignment() -> None:
    items = [Item("x", 80, 0, 1), Item("y", 80, 1, 2, (Overlap("x", 3),))]
    result = plan(items, 8)
    assert result.offsets == {"y": 0, "x": 8}
    assert result.total_bytes == result.bound == 88


def test_an_output_lies_over_several_inputs() -> None:
    items = [
        Item("a", 40, 0, 1),
        Item("b", 60, 0, 1),
        Item("y", 100, 1, 2, (Overlap("a"), Overlap("b", 40))),
    ]
    result = plan(items, 4)
    assert result.offsets == {"y": 0, "a": 0, "b": 40}
    assert result.total_bytes == result.bound == 100


@pytest.mark.parametrize(
    ("output", "inputs", "shared"),
    [
        (100, [], 0),
        (100, [(40, 0)], 40),
        (100, [(0, 0), (40, 0)], 40),
        (100, [(400, 0)], 100),
        (100, [(40, 80)], 20),
        (100, [(40, 100)], 0),
        (100, [(40, 0), (40, 0)], 80),
        (100, [(40, 70), (40, 0)], 70),
        (100, [(70, 70), (70, 70)], 30),
        (100, [(10, 0), (10, 50), (90, 55)], 60),
    ],
)
def test_shared_bytes(output: int, inputs: list[tuple[int, int]], shared: int) -> None:
    assert shared_bytes(output, inputs) == shared


def test_scratch_lives_for_its_layer_only() -> None:
    items = [
        Item("x", 100, 0, 1),
        Item("scratch 1", 60, 1, 1),
        Item("y", 20, 1, 2),
        Item("scratch 2", 90, 2, 2),
        Item("z", 20, 2, 3),
    ]
    result = plan(items, 4)
    check(items, result, 4)
    assert result.total_bytes == result.bound == 180


def test_views_lie_where_they_belong() -> None:
    items = [
        Item("whole", 96, 4, 5),
        Item("top", 50, 0, 1, alias_of="whole"),
        Item("bottom", 46, 2, 3, alias_of="whole", at=50),
        Item("part", 10, 2, 3, alias_of="bottom", at=6),
        Item("x", 30, 1, 2),
    ]
    for order in itertools.permutations(items):
        result = plan(order, 16)
        at = result.offsets["whole"]
        assert (result.offsets["top"], result.offsets["bottom"]) == (at, at + 50)
        assert result.offsets["part"] == at + 56
        assert result.total_bytes == result.bound == 128
        check(items, result, 16)


def test_a_view_is_written_over_like_what_it_views() -> None:
    items = [
        Item("x", 100, 0, 1),
        Item("tail", 40, 1, 2, alias_of="x", at=60),
        Item("y", 40, 2, 3, (Overlap("tail"),)),
        Item("z", 40, 2, 3, (Overlap("x"),)),  # x itself is dead by then
    ]
    result = plan(items, 4)
    check(items, result, 4)
    assert result.total_bytes == result.bound == 140


def test_input_that_lives_on_is_not_overwritten() -> None:
    items = [Item("x", 100, 0, 2), Item("y", 100, 1, 2, (Overlap("x"),))]
    assert plan(items, 4).total_bytes == 200


def test_input_whose_view_lives_on_is_not_overwritten() -> None:
    items = [
        Item("x", 100, 0, 1),
        Item("v", 100, 1, 3, alias_of="x"),
        Item("y", 100, 1, 3, (Overlap("x"),)),
    ]
    result = plan(items, 4)
    assert result.offsets["v"] == result.offsets["x"] != result.offsets["y"]


def test_input_whose_view_is_read_at_the_same_step_is_not_overwritten() -> None:
    items = [
        Item("x", 100, 0, 1),
        Item("v", 40, 0, 1, alias_of="x", at=60),
        Item("y", 100, 1, 3, (Overlap("x"),)),
    ]
    assert plan(items, 4).total_bytes == 200


def test_two_outputs_do_not_lie_over_each_other() -> None:
    items = [
        Item("x", 100, 0, 1),
        Item("y", 100, 1, 2, (Overlap("x"),)),
        Item("z", 100, 1, 2, (Overlap("x"),)),
    ]
    result = plan(items, 4)
    check(items, result, 4)
    assert result.total_bytes == 200


def test_small_output_in_place_of_a_large_input_frees_the_rest() -> None:
    items = [
        Item("x", 1000, 0, 1),
        Item("y", 100, 1, 9, (Overlap("x"),)),
        Item("z", 900, 2, 3),
    ]
    assert plan(items, 4).total_bytes == 1000


def test_neighbour_keeps_clear_of_the_largest_part_it_lives_with() -> None:
    items = [
        Item("x", 1000, 0, 1),
        Item("y", 100, 1, 9, (Overlap("x"),)),
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
        [Item("x", 1, 0, 1, at=4)],
        [Item("y", 9, 0, 1), Item("x", 1, 0, 1, alias_of="y", at=-1)],
        [Item("x", 1, 0, 1, (Overlap("y"),))],
        [Item("y", 1, 0, 1), Item("x", 1, 1, 1, (Overlap("y", -1),))],
        [Item("y", 1, 0, 1), Item("x", 1, 1, 1, (Overlap("y"), Overlap("y", 2)))],
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
