"""The report page: true, self-contained, always the same, and safe whatever the model says."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import onnx
import pytest
from onnx import helper

from qcc.codegen.program import Program
from qcc.codegen.report import kernel_label, layer_label, report_html, spare_bits
from qcc.config import Config
from qcc.driver import Compilation, compile_proto
from qcc.frontend.load import check_model
from qcc.ops.examples import model, normal

SHAPE = (1, 3, 8, 8)

HOSTILE = [
    "</td></table><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}{% raw %}",
    "a\n\r\x00\x1b[31m*/ // \\",
    "\u202eevil <b>",
]


def branched(names: tuple[str, ...] = ("stem", "left", "right", "sum", "head")) -> onnx.ModelProto:
    """A convolution, two branches, their sum, and a dense layer; *names* are the nodes'."""
    x, y = f"x{names[0]}", f"y{names[1]}"
    nodes = [
        helper.make_node("Conv", [x, "w0"], ["a"], name=names[0], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["r"], name="relu"),
        helper.make_node("Conv", ["r", "w1"], ["b"], name=names[1], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["r", "w2"], ["c"], name=names[2]),
        helper.make_node("Add", ["b", "c"], ["s"], name=names[3]),
        helper.make_node("Flatten", ["s"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "d"], [y], name=names[4]),
    ]
    constants = {
        "w0": normal((4, 3, 3, 3), 1, 0.3),
        "w1": normal((4, 4, 3, 3), 2, 0.3),
        "w2": normal((4, 4, 1, 1), 3, 0.3),
        "d": normal((256, 5), 4, 0.1),
    }
    return model("branched", nodes, {x: SHAPE}, [y], constants)


def compiled(proto: onnx.ModelProto, title: str = "branched.onnx") -> Compilation:
    (port,) = proto.graph.input
    samples = {port.name: normal((8, *SHAPE), 9)}
    config = Config(mean=(1.0, 2.0, 3.0), std=(0.5,), calibration=samples)
    return compile_proto(check_model(proto), config, title, "5ha")


@pytest.fixture(scope="module")
def done() -> Compilation:
    return compiled(branched())


@pytest.fixture(scope="module")
def page(done: Compilation) -> str:
    return report_html(done)


class Reader(HTMLParser):
    """The elements of a page and its text; fails where they do not nest."""

    VOID = ("meta", "br", "img", "link", "input", "hr")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "

    def numbers(self, tag: str, *names: str) -> list[tuple[float, ...]]:
        """Numeric attributes of every element of a kind."""
        return [tuple(float(a[n] or "nan") for n in names) for t, a in self.tags if t == tag]


def test_the_page_is_the_same_every_time(page: str) -> None:
    assert report_html(compiled(branched())) == page


def test_the_page_nests_and_loads_nothing(page: str) -> None:
    tags = Reader(page).tags
    assert {t for t, _ in tags}.isdisjoint({"script", "link", "img", "iframe", "a", "object"})
    assert not re.search(r"https?:|//|url\(|@import|src=|href=", page)


def test_the_figures_are_those_of_the_program(done: Compilation, page: str) -> None:
    text, p = Reader(page).text, done.program
    for number in (p.arena_bytes, p.arena_bound, p.weight_bytes, p.macs, p.parameters):
        assert f"{number:,}" in text
    assert "8 samples" in text
    assert "(raw \u2212 1, 2, 3) / 0.5" in text
    assert "single-shift" in text
    assert "5ha" in text


def test_every_layer_has_its_row(done: Compilation, page: str) -> None:
    text = Reader(page).text
    for layer in done.program.layers:
        assert layer.name in text
        assert kernel_label(layer) in text
        assert f"{layer.weight_bytes:,}" in text
        if layer.acc_bound:
            assert f"{layer.acc_bound:,}" in text
            assert f"{spare_bits(layer.acc_bound)} bits free" in text
        assert f"{done.sqnr_db[layer.output_tensor]:.1f}" in text


def test_ports_say_how_to_feed_them(done: Compilation, page: str) -> None:
    text, (port,) = Reader(page).text, done.program.inputs
    assert f"{port.name}[(y * 8 + x) * 3 + c]" in text
    assert f"floor(real / {port.quant.scalar:.9g} + 0.5)" in text
    assert "transposed by (0, 2, 3, 1)" in text
    assert f"{done.program.name}_run(" in text


def boxes(page: str) -> list[tuple[float, float, float, float]]:
    """Left, right, lower and upper edge of every buffer in the picture."""
    found = Reader(page).numbers("rect", "x", "y", "width", "height")
    return [(x, x + w, y + h, y) for x, y, w, h in found]


def test_the_picture_places_buffers_as_the_plan_does(done: Compilation, page: str) -> None:
    p: Program = done.program
    picture = boxes(page)
    assert len(picture) == len(p.buffers) > 1
    floor = max(low for _, _, low, _ in picture)
    first = p.buffers[0]
    column = (picture[0][1] - picture[0][0]) / (first.last - first.first + 1)
    scale = (picture[0][2] - picture[0][3]) / first.bytes
    left = picture[0][0] - first.first * column
    for (x0, x1, low, high), b in zip(picture, p.buffers, strict=True):
        assert x0 == pytest.approx(left + b.first * column, abs=0.5)
        assert x1 == pytest.approx(left + (b.last + 1) * column, abs=0.5)
        assert floor - low == pytest.approx(b.offset * scale, abs=0.5)
        assert low - high == pytest.approx(b.bytes * scale, abs=0.5)
    width, height = (960.0, 320.0)
    assert f'viewBox="0 0 {width} {height}"' in page
    assert all(0 <= x0 < x1 <= width + 0.1 for x0, x1, _, _ in picture)
    assert all(0 <= high < low <= height for _, _, low, high in picture)


def test_hostile_names_are_text() -> None:
    nodes = tuple(f"{name} {i}" for i, name in enumerate(HOSTILE))
    hostile = compiled(branched(nodes), title=HOSTILE[0])
    page = report_html(hostile)
    reader = Reader(page)
    allowed = {"class", "style", "title", "lang", "charset", "name", "content", "http-equiv"}
    plain = Reader(report_html(compiled(branched())))
    assert [t for t, _ in reader.tags] == [t for t, _ in plain.tags]
    for tag, attributes in reader.tags:
        if tag not in ("svg", "rect", "line", "text"):
            assert set(attributes) <= allowed
        assert not any(name.startswith("on") for name in attributes)
    assert "<script>alert(1)</script>" in reader.text
    assert "{{ 7 * 7 }}" in reader.text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", page)


def test_undecodable_file_names_can_be_written() -> None:
    report_html(compiled(branched(), title="bad\udcff.onnx")).encode("utf-8")


def test_a_model_without_an_arena_has_no_picture() -> None:
    nodes = [helper.make_node("Gemm", ["x", "d"], ["y"])]
    proto = model("one", nodes, {"x": (1, 6)}, ["y"], {"d": normal((6, 3))})
    page = report_html(compile_proto(check_model(proto), Config()))
    assert "<svg" not in page
    assert "No arena" in page
    assert "model_run(x, y, NULL);" in page


def test_missing_calibration_is_noted() -> None:
    page = report_html(compile_proto(check_model(branched()), Config()))
    assert "accuracy is not assured" in Reader(page).text


def test_the_saving_of_constant_channels_is_shown(done: Compilation) -> None:
    p = replace(done.program, macs_before=2 * done.program.macs)
    assert "Constant channels removed" in report_html(replace(done, program=p))
    p = replace(done.program, macs_before=done.program.macs,
                weight_bytes_before=done.program.weight_bytes)  # fmt: skip
    assert "Constant channels removed" not in report_html(replace(done, program=p))


def test_a_missing_or_perfect_ratio_is_shown_as_such(done: Compilation) -> None:
    first, *others = (layer.output_tensor for layer in done.program.layers)
    page = report_html(replace(done, sqnr_db={first: float("inf"), others[0]: -3.0}))
    assert "exact" in Reader(page).text
    assert 'class="bar low" style="width:0.0%"' in page


@pytest.mark.parametrize(
    ("bound", "bits"), [(1, 30), (2**30 - 1, 1), (2**30, 0), (2**31 - 1, 0), (2**31, -1)]
)
def test_spare_bits(bound: int, bits: int) -> None:
    assert spare_bits(bound) == bits


@pytest.mark.parametrize(
    ("name", "limit", "label"),
    [
        ("conv", 10, "conv"),
        ("model/block_3/relu;model/block_3/conv", 20, "model/block_3/relu"),
        ("model/block_3/relu;model/block_3/conv", 12, "block_3/relu"),
        ("model/block_3/relu", 10, "..._3/relu"),
        ("x" * 50, 10, "..." + "x" * 7),
        (";", 10, ";"),
        ("/", 10, "/"),
    ],
)
def test_layer_labels_keep_the_end(name: str, limit: int, label: str) -> None:
    assert layer_label(name, limit) == label
