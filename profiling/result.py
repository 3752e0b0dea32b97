"""What a profile says: plain values, and their JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class LayerProfile:
    """One layer, one run.

    Attributes:
        index: position in execution order, from 0.
        name: as in the manifest.
        op: IR operator.
        kernel: the kernel's name, as in the manifest.
        macs: multiply-accumulates.
        instructions: executed.
        cycles: by the cycle model; None where the core has none.
        classes: executed instructions by kind; empty where kinds are not known.
        stack_bytes: below the frame of the model's function.
        code_bytes: of this layer alone; shared kernels are in ``Profile.shared``.
        table_bytes: its constant tables.
    """

    index: int
    name: str
    op: str
    kernel: str
    macs: int
    instructions: int
    cycles: int | None
    classes: dict[str, int]
    stack_bytes: int
    code_bytes: int
    table_bytes: int

    @property
    def per_mac(self) -> float | None:
        """Instructions per multiply-accumulate; None without any."""
        return self.instructions / self.macs if self.macs else None


@dataclass(frozen=True, slots=True)
class SharedCode:
    """A function that several layers call, or none that was seen.

    Attributes:
        name: the function.
        bytes: its code.
        layers: indices of the layers that ran it.
    """

    name: str
    bytes: int
    layers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Flash:
    """Bytes that stay in flash.

    Attributes:
        firmware: the smallest firmware with the model in it: start-up code, one call.
        model: what the model brings, its libraries' part included.
        code, tables: of the model's own objects.
        library: functions of the compiler's library and memcpy and the like.
        call: code of the model's function outside its layers.
        other: what no layer could be given: alignment, constants without a name.
    """

    firmware: int
    model: int
    code: int
    tables: int
    library: int
    call: int
    other: int


@dataclass(frozen=True, slots=True)
class Profile:
    """A compiled model, measured under emulation; per run.

    Attributes:
        name: the model.
        target, board, core: what it was compiled for and ran on.
        engine: ``qemu`` or ``unicorn``.
        compiler: how it was built.
        samples: how many runs the numbers are the mean of.
        cycle_model: where cycles come from; None where there are none.
        macs: multiply-accumulates.
        instructions, cycles: of the model's function, call to return.
        call_instructions, call_cycles: of these, outside all layers.
        stack_bytes: below the caller of the model's function.
        arena_bytes: what the caller provides.
        flash: bytes in flash.
        layers: in execution order.
        shared: functions of several layers.
    """

    name: str
    target: str
    board: str
    core: str
    engine: str
    compiler: str
    samples: int
    cycle_model: str | None
    macs: int
    instructions: int
    cycles: int | None
    call_instructions: int
    call_cycles: int | None
    stack_bytes: int
    arena_bytes: int
    flash: Flash
    layers: tuple[LayerProfile, ...]
    shared: tuple[SharedCode, ...]

    @property
    def per_mac(self) -> float | None:
        """Instructions per multiply-accumulate; None without any."""
        return self.instructions / self.macs if self.macs else None

    def as_dict(self) -> dict[str, Any]:
        """The profile as JSON values; docs/profile.md describes the keys."""
        found = asdict(self)
        found["per_mac"] = _rounded(self.per_mac)
        found["layers"] = [
            {**asdict(layer), "per_mac": _rounded(layer.per_mac)} for layer in self.layers
        ]
        found["shared"] = [{**asdict(s), "layers": list(s.layers)} for s in self.shared]
        return found


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
