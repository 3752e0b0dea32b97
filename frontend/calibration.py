"""Sample data for calibration and evaluation: ``--calib`` as docs and ``qcc --help`` promise it.

Read are an .npz (one array per graph input), one .npy, or a folder of .npy files or of images.
Every file is hostile until proved otherwise: sizes come from headers before anything is loaded,
pickles are never opened, and whatever a broken file makes a reader raise becomes a ``QccError``.

Layouts are never guessed: samples come in the order of the model's own shape. Only axes of length
1 may be missing, extra or elsewhere, since they do not change the order of the values.
"""

from __future__ import annotations

import math
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from qcc.errors import QccError, UsageError, short
from qcc.ir import Array, Shape

LIMIT_BYTES = 2 << 30
"""Largest array that is read, as stored and as float32."""

LABEL_NAMES = ("y", "label", "labels", "target", "targets")
_NOT_SAMPLES = frozenset({*LABEL_NAMES, "name", "names", "official"})
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".webp"})

_MEMORY = Path("the data")
"""How messages call what is not in a file."""

Affine = float | Sequence[float]
"""A number, or one per channel."""


def load_samples(
    path: Path, inputs: Mapping[str, Shape], mean: Affine = 0.0, std: Affine = 1.0
) -> dict[str, Array]:
    """The samples in *path*, ``(raw - mean) / std``, for each graph input.

    Args:
        path: .npz, .npy, or a folder of .npy files or images.
        inputs: ONNX name -> shape in ONNX's layout, batch axis included.
        mean: in units of the raw values; per channel along axis 1 (NCHW) or the last (NHWC),
            whichever has that length.
        std: likewise, never zero.

    Returns:
        Input name -> float32 (N, *shape), finite, the same N > 0 for all.

    Raises:
        QccError: naming the file, the array, what was found and what is expected.
    """
    return _load(path, inputs, mean, std)[0]


def check_samples(arrays: Mapping[str, Array], inputs: Mapping[str, Shape]) -> dict[str, Array]:
    """As ``load_samples``, of arrays in memory: nothing is subtracted or divided.

    Raises:
        QccError: naming the array, what was found and what is expected.
    """

    def entry(name: str, x: Array) -> _Entry:
        return _Entry(f"array {short(name)!r}", x.shape, x.dtype, x.copy)

    entries = {str(name): entry(str(name), np.asarray(x)) for name, x in arrays.items()}
    return _samples(_MEMORY, entries, inputs, 0.0, 1.0)[0]


def load_labelled(
    path: Path, inputs: Mapping[str, Shape], mean: Affine = 0.0, std: Affine = 1.0
) -> tuple[dict[str, Array], Array | None]:
    """As ``load_samples``, and the labels, int64 (N,), or None where there are none.

    Labels are an array (or, in a folder, a .npy file) called y, label(s) or target(s).
    """
    samples, entries, used = _load(path, inputs, mean, std)
    for name in LABEL_NAMES:
        if name in entries and name not in used:
            return samples, _labels(entries[name], len(next(iter(samples.values()))))
    return samples, None


def open_arrays(path: Path) -> Entries:
    """The arrays of an .npz or .npy file by name; only their headers have been read.

    Raises:
        QccError: the file cannot be read, or one of its arrays is damaged.
    """
    if not path.is_file():
        why = "this is no file" if path.exists() else "there is no such file"
        raise QccError(f"{path}: {why}")
    return _open(path, {})


@dataclass(frozen=True, slots=True)
class _Entry:
    """One array of the source: known by its header, loaded on demand.

    Attributes:
        where: how messages name it, e.g. "calib.npz: array 'x'".
        shape: leading axis of samples included.
        load: the raw values; a fresh array that the caller may change.
    """

    where: str
    shape: Shape
    dtype: np.dtype[Any]
    load: Callable[[], Array]

    @property
    def numeric(self) -> bool:
        return self.dtype.kind in "iuf"

    def check(self) -> None:
        """Refuse what is not worth loading or must not be."""
        if self.dtype.hasobject:
            raise QccError(
                f"{self.where} holds Python objects, which would have to be unpickled; save it as "
                "an array of numbers"
            )
        if not self.numeric:
            raise QccError(f"{self.where} is {self.dtype}; expected integers or floats")
        wanted = math.prod(self.shape) * max(4, self.dtype.itemsize)
        if wanted > LIMIT_BYTES:
            raise QccError(
                f"{self.where} has shape {self.shape}, {wanted / 2**30:.1f} GiB; at most "
                f"{LIMIT_BYTES / 2**30:.0f} GiB are read, so keep fewer samples"
            )


Entries = dict[str, _Entry]


def _load(
    path: Path, inputs: Mapping[str, Shape], mean: Affine, std: Affine
) -> tuple[dict[str, Array], Entries, set[str]]:
    """The samples, all arrays of the source, and the names of those that are samples."""
    entries = _open(path, inputs)
    samples, used = _samples(path, entries, inputs, mean, std)
    return samples, entries, used


def _samples(
    path: Path, entries: Entries, inputs: Mapping[str, Shape], mean: Affine, std: Affine
) -> tuple[dict[str, Array], set[str]]:
    """The samples for each graph input, and the names of the arrays they are."""
    affine = {name: _affine(name, shape, mean, std) for name, shape in inputs.items()}
    chosen = _choose(path, entries, inputs)
    samples = {
        name: _convert(entries[array], name, inputs[name], *affine[name])
        for name, array in chosen.items()
    }
    counts = {name: len(x) for name, x in samples.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{short(n)!r} has {c}" for n, c in counts.items())
        raise QccError(f"{path.name}: every input needs as many samples, but {listed}")
    return samples, set(chosen.values())


# -- choosing -----------------------------------------------------------------------------------


def _choose(path: Path, entries: Entries, inputs: Mapping[str, Shape]) -> dict[str, str]:
    """Graph input -> name of its array."""
    missing = [name for name in inputs if name not in entries]
    if not missing:
        return {name: name for name in inputs}
    if len(inputs) == 1:
        return {missing[0]: _only_candidate(path, entries, *next(iter(inputs.items())))}
    held = ", ".join(short(name) for name in entries) or "nothing"
    raise QccError(
        f"{path.name}: no array for input {short(missing[0])!r}; a model with {len(inputs)} inputs "
        "needs an .npz with one array per input, under its name",
        [f"it holds {short(held, 200)}"],
    )


def _only_candidate(path: Path, entries: Entries, name: str, shape: Shape) -> str:
    """The array that can be meant where the model has one input and no array has its name."""
    numbers = [n for n, e in entries.items() if e.numeric and n.lower() not in _NOT_SAMPLES]
    fitting = [n for n in numbers if _fits(entries[n].shape, shape)]
    for found in (fitting, numbers, list(entries)):
        if len(found) == 1:
            return found[0]
    listed = ", ".join(f"{short(n)} {e.shape}" for n, e in entries.items()) or "no array"
    if not fitting:
        raise QccError(
            f"{path.name}: no array has the shape {_expected(shape)} of input {short(name)!r}",
            [f"it holds {short(listed, 200)}"],
        )
    raise QccError(
        f"{path.name}: the arrays {short(', '.join(fitting))} could all be input {short(name)!r}; "
        "give the right one that name"
    )


def _no_units(shape: Shape) -> Shape:
    return tuple(d for d in shape if d != 1)


def _fits(found: Shape, shape: Shape) -> bool:
    """Whether *found* is a stack of samples of *shape*, axes of length 1 apart."""
    return len(found) > 0 and _no_units(found[1:]) == _no_units(shape)


def _expected(shape: Shape) -> str:
    """How messages print the shape of a stack of samples."""
    rest = shape[1:] if shape[:1] == (1,) else shape
    return f"(N, {', '.join(map(str, rest))})" if rest else "(N,)"


def _misfit(entry: _Entry, name: str, shape: Shape) -> QccError:
    """The refusal of an array whose shape does not fit, with a hint where one can be given."""
    message = (
        f"{entry.where} has shape {entry.shape}, but input {short(name)!r} takes {_expected(shape)}"
    )
    found = entry.shape[1:]
    if _no_units(entry.shape) == _no_units(shape):
        return QccError(message, ["this is one sample: add a leading axis of samples"])
    if sorted(_no_units(found)) != sorted(_no_units(shape)):
        return QccError(message)
    rest = shape[1:] if shape[:1] == (1,) else shape
    for perm, kind in (((0, 3, 1, 2), "NHWC"), ((0, 2, 3, 1), "NCHW")):
        if len(found) == 3 and tuple(found[p - 1] for p in perm[1:]) == rest:
            other = "NCHW" if kind == "NHWC" else "NHWC"
            hint = f"the array looks {kind}, the model is {other}: save array.transpose{perm}"
            return QccError(message, [hint])
    return QccError(message, ["the same axes in another order: transpose the array"])


# -- converting ---------------------------------------------------------------------------------


def _convert(entry: _Entry, name: str, shape: Shape, mean: Array, std: Array) -> Array:
    """float32 (N, *shape), finite, N > 0."""
    entry.check()
    if not _fits(entry.shape, shape):
        raise _misfit(entry, name, shape)
    if entry.shape[0] == 0:
        raise QccError(f"{entry.where} has no samples")
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused below
        raw = entry.load()
        x = raw.reshape(len(raw), *shape).astype(np.float32, copy=False)
        x = np.ascontiguousarray(x)
        if mean.any():
            x -= mean
        if (std != 1).any():
            x /= std
    bad = ~np.isfinite(x).reshape(len(x), -1).all(axis=1)
    if bad.any():
        raise QccError(f"{entry.where}: sample {int(bad.argmax())} holds NaN or infinity (float32)")
    return x


def _affine(name: str, shape: Shape, mean: Affine, std: Affine) -> tuple[Array, Array]:
    """*mean* and *std* as float32 that broadcast over (N, *shape)."""
    m, s = _channels("--mean", mean, name, shape), _channels("--std", std, name, shape)
    if not s.all():
        raise UsageError("--std holds a zero; samples are divided by it")
    return m, s


def _channels(option: str, values: Affine, name: str, shape: Shape) -> Array:
    with np.errstate(over="ignore"):
        v = np.atleast_1d(np.asarray(values, np.float32))
    if v.ndim != 1 or not v.size or not np.isfinite(v).all():
        raise UsageError(f"{option}: expected one finite number, or one per channel")
    if v.size == 1:
        return v
    last = len(shape) - 1
    axes = sorted({a for a in (1, last) if 0 < a <= last and shape[a] == v.size})
    if len(axes) != 1:
        why = "neither axis 1 nor the last" if not axes else "both axis 1 and the last"
        raise UsageError(
            f"{option} gives {v.size} values, but of input {short(name)!r} {shape} {why} have that "
            "length; give one number, or scale the samples yourself"
        )
    return v.reshape([-1 if a == axes[0] else 1 for a in range(-1, last + 1)])


def _labels(entry: _Entry, count: int) -> Array:
    """int64 (count,)."""
    entry.check()
    if entry.shape not in ((count,), (count, 1)):
        raise QccError(
            f"{entry.where} has shape {entry.shape}; expected {count} labels, one per sample"
        )
    raw = entry.load().reshape(count)
    if raw.dtype.kind == "f" and not (np.abs(raw) < 2**53).all():  # NaN fails, too
        raise QccError(f"{entry.where}: labels are class numbers, not arbitrary reals")
    labels = raw.astype(np.int64)
    if (labels != raw).any():
        raise QccError(f"{entry.where}: labels are class numbers, not fractions")
    return labels


# -- reading ------------------------------------------------------------------------------------


@contextmanager
def _reading(where: str) -> Iterator[None]:
    """Whatever a reader makes of a damaged file is one sentence to the user.

    numpy, zipfile, its decompressors and Pillow raise far too many types to list them all.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # e.g. about odd palettes; nothing to act on
            yield
    except QccError:
        raise
    except Exception as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise QccError(f"{where} cannot be read: {short(why, 120)}") from error


def _open(path: Path, inputs: Mapping[str, Shape]) -> Entries:
    """All arrays of *path* by name."""
    if path.is_dir():
        return _open_folder(path, inputs)
    if not path.exists():
        raise QccError(f"{path}: no such file or folder of calibration data")
    if not path.is_file():
        raise QccError(f"{path}: not a regular file")
    with _reading(path.name), path.open("rb") as file:
        magic = file.read(6)
    if magic[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _open_npz(path)
    if magic == b"\x93NUMPY":
        return {path.stem: _npy_entry(path)}
    raise QccError(f"{path.name}: neither .npz nor .npy nor a folder of .npy files or images")


def _open_npz(path: Path) -> Entries:
    entries: Entries = {}
    with _reading(path.name), zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if name == info.filename:
                continue
            where = f"{path.name}: array {short(name)!r}"
            if name in entries:
                raise QccError(f"{where} occurs twice")
            with _reading(where), archive.open(info) as member:
                entries[name] = _entry(where, member, info.file_size, _npz_opener(path, info))
    return entries


def _npz_opener(path: Path, info: zipfile.ZipInfo) -> Callable[[], IO[bytes]]:
    def opener() -> IO[bytes]:
        with zipfile.ZipFile(path) as archive:
            return archive.open(info)  # the member keeps the file open

    return opener


def _npy_entry(path: Path) -> _Entry:
    with _reading(path.name), path.open("rb") as file:
        return _entry(path.name, file, path.stat().st_size, lambda: path.open("rb"))


def _entry(where: str, file: IO[bytes], size: int, opener: Callable[[], IO[bytes]]) -> _Entry:
    """The array in *file* from its header; *size* is the length of all of it."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    else:  # 3.0 exists for records with Unicode field names only
        raise QccError(f"{where} is in .npy format {version}; save a plain array of numbers")
    if any(d < 0 for d in shape):
        raise QccError(f"{where} is damaged: shape {shape}")
    stored = math.prod(shape) * dtype.itemsize
    if not dtype.hasobject and size - file.tell() < stored:
        raise QccError(f"{where} is damaged: {stored} bytes promised, {size - file.tell()} there")

    def load() -> Array:
        with _reading(where), opener() as stream:
            array: Array = np.lib.format.read_array(stream, allow_pickle=False)
        if array.shape != shape or array.dtype != dtype:
            raise QccError(f"{where} changed while it was read")
        return array

    return _Entry(where, shape, dtype, load)


# -- folders ------------------------------------------------------------------------------------


def _open_folder(folder: Path, inputs: Mapping[str, Shape]) -> Entries:
    if len(inputs) != 1:
        raise QccError(
            f"{folder.name}: a folder serves a model with one input, this one has {len(inputs)}; "
            "use an .npz with one array per input"
        )
    name, shape = next(iter(inputs.items()))
    with _reading(folder.name):
        files = sorted(f for f in folder.iterdir() if f.is_file() and not f.name.startswith("."))
    arrays = [f for f in files if f.suffix.lower() == ".npy"]
    images = [f for f in files if f.suffix.lower() in IMAGE_SUFFIXES]
    labels = {f.stem: _npy_entry(f) for f in arrays if f.stem in LABEL_NAMES}
    arrays = [f for f in arrays if f.stem not in LABEL_NAMES]
    if bool(arrays) == bool(images):
        what = "both .npy files and images" if arrays else "neither .npy files nor images"
        raise QccError(f"{folder.name}: the folder holds {what}; expected one of the two")
    samples = (
        _stack_arrays(folder, arrays, name, shape)
        if arrays
        else _stack_images(folder, images, name, shape)
    )
    return {**labels, name: samples}


def _stack_arrays(folder: Path, files: Sequence[Path], name: str, shape: Shape) -> _Entry:
    """The samples of all *files*; each holds one sample or a stack of them."""
    entries = [_npy_entry(f) for f in files]
    counts = []
    for entry in entries:
        entry.check()
        single = _no_units(entry.shape) == _no_units(shape) and len(entry.shape) <= len(shape)
        if not single and not _fits(entry.shape, shape):
            raise _misfit(entry, name, shape)
        counts.append(1 if single else entry.shape[0])

    def load() -> Array:
        stack = np.empty((sum(counts), *shape), np.float32)
        at = 0
        for entry, count in zip(entries, counts, strict=True):
            stack[at : at + count] = entry.load().reshape(count, *shape)
            at += count
        _name_bad_file(stack, entries, counts)
        return stack

    stacked = (sum(counts), *shape)
    return _Entry(f"{folder.name}: the stack of files", stacked, np.dtype(np.float32), load)


def _name_bad_file(stack: Array, entries: Sequence[_Entry], counts: Sequence[int]) -> None:
    """Refuse NaN and infinity in terms of the file rather than of the stack."""
    at = 0
    for entry, count in zip(entries, counts, strict=True):
        if not np.isfinite(stack[at : at + count]).all():
            raise QccError(f"{entry.where} holds NaN or infinity (float32)")
        at += count


def _stack_images(folder: Path, files: Sequence[Path], name: str, shape: Shape) -> _Entry:
    """The images resized to the input, 0..255, as NCHW or NHWC, whichever *shape* is."""
    height, width, channels, axis = _image_axes(name, shape)

    def load() -> Array:
        stack = np.empty((len(files), height, width, channels), np.uint8)
        for i, file in enumerate(files):
            stack[i] = _read_image(file, (height, width, channels))
        return np.moveaxis(stack, -1, axis).reshape(len(files), *shape)

    where = f"{folder.name}: the stack of images"
    return _Entry(where, (len(files), *shape), np.dtype(np.uint8), load)


def _image_axes(name: str, shape: Shape) -> tuple[int, int, int, int]:
    """(height, width, channels, axis of the channels in a stack of images) of an image input."""
    rest = shape[1:] if len(shape) in (3, 4) and shape[0] == 1 else ()
    if len(rest) == 2:
        return rest[0], rest[1], 1, 1
    axes = [a for a in (0, 2) if len(rest) == 3 and rest[a] in (1, 3)]
    if len(axes) != 1:
        raise QccError(
            f"input {short(name)!r} {shape} is no NCHW or NHWC image of 1 or 3 channels for sure; "
            "use an .npz instead of a folder of images"
        )
    height, width = (d for a, d in enumerate(rest) if a != axes[0])
    return height, width, rest[axes[0]], 1 if axes[0] == 0 else 3


def _read_image(file: Path, shape: Shape) -> Array:
    """uint8 (height, width, channels), resized bilinearly."""
    try:
        from PIL import Image
    except ImportError as error:
        raise QccError(
            "a folder of images needs the Pillow package: pip install 'qcc[images]'"
        ) from error
    with _reading(file.name):
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return _resized(file, shape)


def _resized(file: Path, shape: Shape) -> Array:
    from PIL import Image

    height, width, channels = shape
    with Image.open(file) as image:
        if image.mode.startswith(("I", "F")):
            raise QccError(f"{file.name} has more than 8 bits a channel; use an .npz instead")
        plain = image.convert("L" if channels == 1 else "RGB")
        resized = plain.resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(resized, np.uint8).reshape(shape)
