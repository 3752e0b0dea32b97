"""Run generated C on this machine: compile it to a shared library, call it from Python.

The library is built in a temporary folder; OUT is only read.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from qcc.errors import QccError, UsageError, short
from qcc.ir import Array, Int

_FLAGS = ("-std=c99", "-O3", "-shared", "-fPIC")
_NATIVE = "-march=native"


class HostLibrary:
    """The model in OUT as a function on numpy arrays; a context manager that owns the build.

    Args:
        out: folder that qcc wrote.
        manifest: its manifest.
        jobs: threads that share the samples. Threads use every core here: ctypes lets go of the
            interpreter lock during a call, and generated code is reentrant.
    """

    def __init__(self, out: Path, manifest: Mapping[str, Any], jobs: int = 1) -> None:
        self.manifest = manifest
        self.jobs = jobs
        # Removes itself with this object and at exit, too.
        self._folder = tempfile.TemporaryDirectory(prefix="qcc-", ignore_cleanup_errors=True)
        try:
            self.path = build(out, manifest, Path(self._folder.name))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> HostLibrary:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the build."""
        self._folder.cleanup()

    def run(self, inputs: Sequence[Int]) -> list[Int]:
        """Outputs in ONNX order, each (N, *C shape), for inputs (N, *C shape) within their types.

        Raises:
            UsageError: the inputs are not of the model's shapes and types.
            QccError: the model returned an error code.
        """
        samples = _check_inputs(self.manifest, inputs)
        if self.jobs == 1 or samples < 2 * self.jobs:
            return run_library(str(self.path), self.manifest, inputs)
        cuts = np.linspace(0, samples, self.jobs + 1).astype(int).tolist()
        with ThreadPoolExecutor(self.jobs) as pool:
            parts = [
                pool.submit(run_library, str(self.path), self.manifest, [x[a:b] for x in inputs])
                for a, b in pairwise(cuts)
            ]
            done = [p.result() for p in parts]
        return [np.concatenate(chunks) for chunks in zip(*done, strict=True)]


def build(out: Path, manifest: Mapping[str, Any], folder: Path) -> Path:
    """Compile the sources of OUT to a shared library in *folder*; its path."""
    cc = os.environ.get("CC") or "gcc"
    words = shlex.split(cc)  # as in make: CC may hold options or a wrapper
    if not words or shutil.which(words[0]) is None:
        raise QccError(f"no C compiler: {cc} is not installed; install gcc or set CC")
    library = folder / f"lib{manifest['name']}.so"
    command = [*words, *_FLAGS, _NATIVE, "-I", str(out)]
    command += [str(out / s) for s in manifest["sources"]] + ["-o", str(library)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and _NATIVE in done.stderr:  # a compiler that does not know this machine
        command.remove(_NATIVE)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        first = (done.stderr.strip() or "no message").splitlines()[0]
        raise QccError(f"{cc} does not compile {out}: {first}")
    return library


def _check_inputs(manifest: Mapping[str, Any], inputs: Sequence[Int]) -> int:
    """The number of samples; C reads where it is told to, so nothing else may reach it.

    Raises:
        UsageError: naming the input that does not fit.
    """
    ports = manifest["inputs"]
    if len(inputs) != len(ports):
        raise UsageError(f"{len(inputs)} inputs given, the model has {len(ports)}")
    for x, p in zip(inputs, ports, strict=True):
        if list(x.shape) != [len(inputs[0]), *p["shape"]]:
            shape = f"({len(inputs[0])}, {', '.join(map(str, p['shape']))})"
            raise UsageError(f"input {short(p['name'])}: shape {x.shape}; expected {shape}")
        if not np.array_equal(x, x.astype(p["dtype"])):
            raise UsageError(f"input {short(p['name'])}: it holds values outside {p['dtype']}")
    return len(inputs[0])


def run_library(path: str, manifest: Mapping[str, Any], inputs: Sequence[Int]) -> list[Int]:
    """Run every sample through the library at *path*, one after the other."""
    function = getattr(ctypes.CDLL(path), manifest["entry"])
    function.restype = ctypes.c_int
    arrays = [
        np.ascontiguousarray(x, np.dtype(p["dtype"]))
        for x, p in zip(inputs, manifest["inputs"], strict=True)
    ]
    samples = len(arrays[0])
    outputs: list[Array] = [
        np.empty((samples, *p["shape"]), np.dtype(p["dtype"])) for p in manifest["outputs"]
    ]
    arena = _aligned(manifest["arena_bytes"], manifest["arena_align"])
    every = [*arrays, *outputs]
    function.argtypes = [ctypes.c_void_p] * (len(every) + 1)
    for i in range(samples):
        code = function(*(a.ctypes.data + i * a.strides[0] for a in every), arena.ctypes.data)
        if code:
            raise QccError(f"{manifest['entry']} returned error code {code}")
    return [y.astype(np.int64) for y in outputs]


def _aligned(size: int, align: int) -> Array:
    raw = np.zeros(size + align, np.uint8)
    start = -raw.ctypes.data % align
    return raw[start : start + size + 1]
