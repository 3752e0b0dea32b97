"""Check what a model says about itself: versions, names, order; then ONNX's own checker.

The checks here come first because they give clearer sentences than the checker, and because the
checker does not see all of it (cycles through unsorted nodes, operators of unknown domains).
"""

from __future__ import annotations

import heapq
from collections import Counter

import onnx
from onnx import checker, defs

from qcc.errors import QccError, short
from qcc.frontend.tensors import all_nodes, dense, describe

OLDEST_OPSET = 7
"""The first opset with numpy's broadcasting; older models have to be converted."""


def check_structure(model: onnx.ModelProto) -> None:
    """Check versions and names; bring the nodes into execution order, sparse weights to dense.

    Raises:
        QccError: naming what is wrong.
    """
    _check_versions(model)
    _normalize_domains(model)
    _densify(model.graph)
    _check_names(model.graph)
    _check_uses(model.graph)
    _sort(model.graph)


def check_schema(model: onnx.ModelProto) -> None:
    """Check attributes and input counts with ONNX's checker, as far as ONNX knows the operators.

    A model with operators that ONNX does not know is refused later, in one message with all that
    is unsupported; its other nodes are checked here.

    Raises:
        QccError: with the checker's reason.
    """
    version = opset(model)
    if all(is_known(node, version) for node in all_nodes(model.graph)):
        _run_checker(model)
        return
    context = type(checker.DEFAULT_CONTEXT)()  # the class itself is not exported
    context.ir_version = model.ir_version
    context.opset_imports = {o.domain: o.version for o in model.opset_import}
    for node in model.graph.node:
        if not is_known(node, version) or any(a.HasField("g") for a in node.attribute):
            continue
        try:
            checker.check_node(node, context)
        except checker.ValidationError as error:
            raise QccError(f"{describe(node)}: not valid ONNX: {_reason(error)}") from error


def opset(model: onnx.ModelProto) -> int:
    """The version of the default operator domain that *model* uses."""
    versions = {o.version for o in model.opset_import if o.domain in ("", "ai.onnx")}
    if not versions:
        raise QccError("the model names no version of the ONNX operators (opset_import)")
    if len(versions) > 1:
        raise QccError(f"the model names several versions of the ONNX operators: {versions}")
    return int(versions.pop())


def is_known(node: onnx.NodeProto, version: int) -> bool:
    """Whether ONNX itself defines the operator of *node* in opset *version*."""
    return node.domain in ("", "ai.onnx") and defs.has(node.op_type, version, "")


def _run_checker(model: onnx.ModelProto) -> None:
    try:
        checker.check_model(model)
    except checker.ValidationError as error:
        raise QccError(f"not valid ONNX: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """The checker's first line; the rest repeats the node."""
    return short(str(error).strip().splitlines()[0] if str(error).strip() else "unknown", 160)


def _check_versions(model: onnx.ModelProto) -> None:
    if model.ir_version > onnx.IR_VERSION:
        raise QccError(
            f"the file format is version {model.ir_version}, newer than {onnx.IR_VERSION},"
            " the newest that the installed onnx package reads; update that package"
        )
    if model.ir_version < 3:
        raise QccError(
            f"the file format is version {model.ir_version}; 3 and later are read:"
            " convert the model with onnx.version_converter"
        )
    version, newest = opset(model), defs.onnx_opset_version()
    if version < OLDEST_OPSET:
        raise QccError(
            f"the model uses ONNX opset {version}; {OLDEST_OPSET} to {newest} are supported:"
            " convert it with onnx.version_converter"
        )
    if version > newest:
        raise QccError(
            f"the model uses ONNX opset {version}; the installed onnx package knows"
            f" {OLDEST_OPSET} to {newest}: export with an older opset or update that package"
        )


def _normalize_domains(model: onnx.ModelProto) -> None:
    """Write the default domain as "", which "ai.onnx" is another name for."""
    version = opset(model)
    others = [o for o in model.opset_import if o.domain not in ("", "ai.onnx")]
    imports = [onnx.OperatorSetIdProto(domain="", version=version), *others]
    del model.opset_import[:]
    model.opset_import.extend(imports)
    for node in all_nodes(model.graph):
        if node.domain == "ai.onnx":
            node.domain = ""


def _densify(graph: onnx.GraphProto) -> None:
    for sparse in graph.sparse_initializer:
        label = f"weight {short(sparse.values.name)!r}"
        graph.initializer.append(dense(sparse, label))
    del graph.sparse_initializer[:]


def _check_names(graph: onnx.GraphProto) -> None:
    """Every value has a name of its own, and there is something to compute."""
    if not graph.output:
        raise QccError("the model has no output")
    for kind, names in (
        ("input", [v.name for v in graph.input]),
        ("output", [v.name for v in graph.output]),
        ("weight", [t.name for t in graph.initializer]),
    ):
        if "" in names:
            raise QccError(
                f"the model has {'an' if kind != 'weight' else 'a'} {kind} without a name"
            )
        if repeated := _first_repeated(names):
            raise QccError(f"the model has two {kind}s named {short(repeated)!r}")
    writers = {v.name: "an input" for v in graph.input}
    writers |= {t.name: "a weight" for t in graph.initializer}
    for node in graph.node:
        for name in filter(None, node.output):
            if name in writers:
                raise QccError(
                    f"{describe(node)} writes {short(name)!r}, which {writers[name]} is already"
                )
            writers[name] = f"an output of {describe(node)}"


def _check_uses(graph: onnx.GraphProto) -> None:
    known = {v.name for v in graph.input} | {t.name for t in graph.initializer}
    known.update(name for node in graph.node for name in node.output)
    for node in graph.node:
        for name in node.input:
            if name and name not in known:
                raise QccError(f"{describe(node)} reads {short(name)!r}, which nothing computes")
    for output in graph.output:
        if output.name not in known:
            raise QccError(f"nothing computes the output {short(output.name)!r}")


def _sort(graph: onnx.GraphProto) -> None:
    """Bring the nodes into execution order, keeping their order where it is one already."""
    writer = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    needs = [{writer[name] for name in node.input if name in writer} for node in graph.node]
    readers: list[list[int]] = [[] for _ in needs]
    for i, sources in enumerate(needs):
        for source in sources:
            readers[source].append(i)
    waiting = [len(sources) for sources in needs]
    ready = [i for i, count in enumerate(waiting) if not count]
    order: list[int] = []
    while ready:
        order.append(heapq.heappop(ready))
        for reader in readers[order[-1]]:
            waiting[reader] -= 1
            if not waiting[reader]:
                heapq.heappush(ready, reader)
    if len(order) < len(needs):
        raise QccError(f"the graph has a cycle through {_on_cycle(graph, needs, waiting)}")
    if order != sorted(order):
        ordered = [graph.node[i] for i in order]
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
        del graph.node[:]
        graph.node.extend(copies)


def _on_cycle(graph: onnx.GraphProto, needs: list[set[int]], waiting: list[int]) -> str:
    """Words that name a node on a cycle: walk back from a stuck node until one repeats."""
    at = next(i for i, count in enumerate(waiting) if count)
    seen: set[int] = set()
    while at not in seen:
        seen.add(at)
        at = min(source for source in needs[at] if waiting[source])
    return describe(graph.node[at])


def _first_repeated(names: list[str]) -> str | None:
    return next((name for name, count in Counter(names).items() if count > 1), None)
