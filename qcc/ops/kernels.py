"""Instances of C kernels: the macros a kernel header is built with, and the name that follows.

Not an operator. In step with the kernel headers of runtime_c/include and the rescale forms of
qcc_arith.h.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from qcc.arith import Rescale
from qcc.ir import Array, Int, QType
from qcc.ops.base import CArray, Kernel
from qcc.packing import pack

_LONGEST = 48
"""C99 promises 63 significant characters of an internal name; kernels add suffixes."""

_SHORT = {"int": "s", "uint": "u"}


def type_tag(ctype: str) -> str:
    """``uint8_t`` -> ``u8``."""
    bare = ctype.removesuffix("_t")
    stem = bare.rstrip("0123456789")
    return f"{_SHORT[stem]}{bare.removeprefix(stem)}"


def instance(
    header: str,
    constants: Mapping[str, int] | None = None,
    /,
    *,
    rescale: str | None = None,
    **types: str,
) -> Kernel:
    """The kernel of *header* built for *types* (macro letter -> C type) and a rescale form.

    ``instance("qcc_conv2d.h", x="uint8_t", w="int8_t", y="int8_t", acc="int32_t",
    rescale="shift32")`` defines ``QCC_X`` and so on; it is called
    ``qcc_conv2d_u8_s8_s8_s32_shift32``. *constants* are what the kernel is specialised for at
    compile time: ``{"pairs": 14}`` defines ``QCC_PAIRS`` 14 and adds ``pairs14`` to the name, or
    a digest of all constants where the name would be too long.
    """
    tags = [type_tag(t) for t in types.values()]
    macros = [(f"QCC_{key.upper()}", ctype) for key, ctype in types.items()]
    if rescale is not None:
        tags.append(rescale)
        macros.append(("QCC_RESCALE", f"qcc_rescale_{rescale}"))
    for key, value in (constants or {}).items():
        tags.append(f"{key}{value}".replace("-", "m"))
        macros.append((f"QCC_{key.upper()}", str(value)))
    stem = header.removesuffix(".h")
    name = "_".join([stem, *tags])
    if len(name) > _LONGEST:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        name = "_".join([stem, *(type_tag(t) for t in types.values()), digest])
    return Kernel(header, name, tuple(macros))


class CWeights:
    """How the weights of one layer lie in flash: densely packed where they have 1 to 7 bits.

    Attributes:
        table: of the values in C order; a stream of qcc/packing.py (uint8_t), or the values.
        constants: for ``instance``, the width of packed ones.
    """

    def __init__(self, w: Int, qtype: QType, layout: str) -> None:
        """*w* are values of *qtype*; *layout* is a note of their order, for readers of the C."""
        self.table = CArray("w", qtype.ctype, w, layout)
        self.constants: dict[str, int] = {}
        if not qtype.signed or qtype.bits >= 8:
            return
        stream = pack(w, qtype.bits)
        if 8 % qtype.bits:  # kernels read two bytes at once, see qcc_bits.h
            stream = np.append(stream, np.uint8(0))
        self.table = CArray("w", "uint8_t", stream, f"{layout}, {qtype.bits} bits each")
        self.constants = {"bits": qtype.bits}

    def header(self, name: str) -> str:
        """The variant of the portable kernel header *name* that reads these weights."""
        return f"{name.removesuffix('.h')}_packed.h" if self.constants else name


class CRescale:
    """How the C of one layer rescales: the form, its tables and the half that goes in the bias.

    Attributes:
        form: suffix of a ``qcc_rescale_*`` function.
        acc: accumulator format, int32 or int64.
        half: to be added to the accumulator (shift forms), one entry or one per channel.
        mult, shift: arguments ``const int32_t *mult`` (or NULL) and ``const uint8_t *shift``.
        step: 0 if the tables have one entry, else 1.
    """

    def __init__(self, rescale: Rescale, acc_bound: int) -> None:
        r = _without_left_shifts(rescale.collapsed())
        shifts_only = all(m == 1 for m in r.mult)
        worst = r.max_product(acc_bound)
        wide = acc_bound >= 1 << 31 or (shifts_only and worst >= 1 << 31)
        narrow = worst < 1 << 31 and max(r.shift) <= 31
        if shifts_only and not wide:
            wide = max(r.shift) > 31
        self.acc = "int64_t" if wide else "int32_t"
        if shifts_only:
            self.form = "shift64" if wide else "shift32"
        else:
            self.form = "mult32" if narrow and not wide else "mult64"
        halves = [(1 << s) >> 1 if shifts_only else 0 for s in r.shift]
        self.half: Int = np.array(halves, np.int64)
        self.step = int(r.per_channel)
        self.mult: CArray | str = "NULL"
        if not shifts_only:
            self.mult = CArray("mult", "int32_t", np.array(r.mult, np.int64))
        self.shift = CArray("shift", "uint8_t", np.array(r.shift, np.int64))
        self.scalars = (r.mult[0], r.shift[0])

    def bias(self, bias: Array | None, channels: int) -> CArray:
        """The bias table, the rounding half folded in."""
        b = np.zeros(channels, np.int64) if bias is None else bias.astype(np.int64)
        return CArray("b", self.acc, b + self.half)


def _without_left_shifts(r: Rescale) -> Rescale:
    """The same factors with shifts >= 0: what a left shift did, the multiplier does."""
    if min(r.shift) >= 0:
        return r
    mult = tuple(m << max(0, -s) for m, s in zip(r.mult, r.shift, strict=True))
    return Rescale(r.mode, mult, tuple(max(0, s) for s in r.shift))
