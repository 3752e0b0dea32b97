"""The passes of ``qcc``, in order.

``FLOAT`` tidies the model and ends in the layers that will be code; then the driver calibrates,
with ``equalize_passes`` if they are wanted;
``integer_passes`` quantize, ``SHRINK`` shrinks and ``fit_passes`` fit into memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qcc.config import Config
from qcc.histogram import Histogram
from qcc.ir import Array, Graph
from qcc.passes.assign_scales import assign_scales
from qcc.passes.canonicalize_affine import canonicalize_affine
from qcc.passes.correct_bias import correct_bias
from qcc.passes.eliminate_identities import eliminate_identities
from qcc.passes.eliminate_transposes import eliminate_transposes
from qcc.passes.equalize import equalize
from qcc.passes.fold_batchnorm import fold_batchnorm
from qcc.passes.fold_constants import fold_constants
from qcc.passes.fuse_activations import fuse_activations
from qcc.passes.fuse_padding import fuse_padding
from qcc.passes.fuse_unary import fuse_unary
from qcc.passes.lower_scale_shift import lower_scale_shift
from qcc.passes.manager import Pass, named
from qcc.passes.patch_rows import Arena, Bands, patch_rows
from qcc.passes.quantize import quantize
from qcc.passes.remove_constant_channels import remove_constant_channels
from qcc.passes.remove_dead_nodes import remove_dead_nodes
from qcc.passes.separate_outputs import separate_outputs
from qcc.passes.tune_weights import Progress, tune_weights

FLOAT: tuple[Pass, ...] = (
    named(fold_constants),
    named(remove_dead_nodes),
    named(eliminate_identities),
    named(eliminate_transposes),
    named(fuse_padding),
    named(canonicalize_affine),
    named(fold_batchnorm),
    named(fuse_unary),
    named(fuse_activations),
    named(lower_scale_shift),
    Pass("eliminate-transposes-again", eliminate_transposes),
    Pass("eliminate-identities-again", eliminate_identities),
    Pass("remove-dead-nodes-again", remove_dead_nodes),
    named(separate_outputs),
)


def equalize_passes(real: Mapping[str, Array]) -> tuple[Pass, ...]:
    """The pass that wants to see activations before the histograms are taken.

    Args:
        real: float values of them for a few samples.
    """

    def run(graph: Graph, config: Config) -> int:
        return equalize(graph, config, real)

    return (Pass("equalize", run),)


def integer_passes(
    stats: Mapping[str, Histogram],
    source: Graph,
    real: Mapping[str, Array],
    progress: Progress | None = None,
) -> tuple[Pass, ...]:
    """The passes after calibration.

    Args:
        stats: a histogram per activation.
        source: a copy of the float graph as it is now.
        real: float values of its activations for a few samples.
        progress: hears of the layers whose weights are tuned.
    """

    def assign(graph: Graph, config: Config) -> int:
        return assign_scales(graph, config, stats)

    def tune(graph: Graph, config: Config) -> int:
        return tune_weights(graph, config, source, real, progress)

    def correct(graph: Graph, config: Config) -> int:
        return correct_bias(graph, source, real) if config.bias_correction else 0

    return (
        Pass("assign-scales", assign),
        named(quantize),
        Pass("tune-weights", tune),
        Pass("correct-bias", correct),
    )


SHRINK: tuple[Pass, ...] = (named(remove_constant_channels),)
"""Passes on the integer graph; they change no bit of the outputs."""


def fit_passes(arena: Arena, found: Callable[[Bands], None]) -> tuple[Pass, ...]:
    """Passes that fit the integer graph to its processor; they change no bit of the outputs.

    Args:
        arena: plans the memory of a graph.
        found: hears of bands of rows.
    """

    def patch(graph: Graph, config: Config) -> int:
        if config.ram_budget is None:
            return 0
        bands = patch_rows(graph, config.ram_budget, arena)
        if bands is None:
            return 0
        found(bands)
        return bands.count

    return (Pass("patch-rows", patch),)


NAMES: tuple[str, ...] = tuple(
    p.name
    for p in (
        *FLOAT,
        *equalize_passes({}),
        *integer_passes({}, Graph(""), {}),
        *SHRINK,
        *fit_passes(lambda graph: 0, lambda bands: None),
    )
)
"""What ``--stop-after`` accepts."""
