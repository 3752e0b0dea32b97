"""Read the weights that a model keeps in files beside it.

A model names those files itself, so nothing but regular files inside its own folder is opened: no
absolute path, no "..", no link of either kind, no device or fifo.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
from onnx import TensorProto

from qcc.errors import QccError, short
from qcc.frontend.files import opened, read_at
from qcc.frontend.tensors import byte_size, tensors

MAX_EXTERNAL_BYTES = 1 << 29
"""Bytes read from all external files together; counted per tensor, so repeats count too."""


def load_external_data(model: onnx.ModelProto, folder: Path) -> None:
    """Move the external data of every tensor of *model* into it.

    Raises:
        QccError: naming the tensor whose file cannot be used.
    """
    external = [
        (f"{label}: external data", tensor)
        for label, tensor in tensors(model)
        if tensor.data_location == TensorProto.EXTERNAL
    ]
    sizes = [byte_size(tensor, where) for where, tensor in external]
    if (total := sum(sizes)) > MAX_EXTERNAL_BYTES:
        raise QccError(
            f"the external data is too large: {total >> 20} MiB;"
            f" at most {MAX_EXTERNAL_BYTES >> 20} MiB are read"
        )
    for (where, tensor), size in zip(external, sizes, strict=True):
        info = {entry.key: entry.value for entry in tensor.external_data}
        path = _inside(folder, info.get("location", ""), where)
        data = _read(path, _number(info, "offset", where), info, size, where)
        # Whatever data the message already holds would contradict the file.
        for field in ("float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
            tensor.ClearField(field)
        del tensor.external_data[:]
        tensor.data_location = TensorProto.DEFAULT
        tensor.raw_data = data


def _inside(folder: Path, location: str, where: str) -> Path:
    """The file that *location* names below *folder*, reached without a link."""
    shown = repr(short(location))
    windows, posix = PureWindowsPath(location), PurePosixPath(location)
    if not location or "\0" in location:
        raise QccError(f"{where} has no usable file name: {shown}")
    if posix.is_absolute() or windows.drive or windows.root:
        raise QccError(f"{where} is in {shown}; only files in the model's folder are read")
    if ".." in posix.parts or ".." in windows.parts:
        raise QccError(f"{where} is in {shown}, which leaves the model's folder")
    path = folder
    for part in posix.parts:
        path = path / part
        try:
            mode = path.lstat().st_mode
        except OSError as error:
            raise QccError(f"{where} is in {shown}: {error.strerror}") from None
        if stat.S_ISLNK(mode):
            raise QccError(f"{where} is in {shown}, a symbolic link; put the file itself there")
    return path


def _read(path: Path, offset: int, info: dict[str, str], size: int, where: str) -> bytes:
    length = _number(info, "length", where, default=size)
    shown = repr(short(path.name))
    if length != size:
        raise QccError(f"{where} has a length of {length} bytes, but its shape needs {size}")
    # The checks are repeated on the open file: the name may mean another one by now.
    with opened(path, os.O_NOFOLLOW) as (fd, found):
        if not stat.S_ISREG(found.st_mode):
            raise QccError(f"{where} is in {shown}, which is not a regular file")
        if found.st_nlink > 1:
            raise QccError(f"{where} is in {shown}, which has hard links; put a copy there")
        if offset + size > found.st_size:
            raise QccError(
                f"{where} needs bytes {offset} to {offset + size} of {shown},"
                f" which has {found.st_size}"
            )
        data = read_at(fd, offset, size)
    if len(data) != size:
        raise QccError(f"{where}: {shown} became shorter while it was read")
    return data


def _number(info: dict[str, str], key: str, where: str, default: int = 0) -> int:
    text = info.get(key, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise QccError(f"{where} has a bad {key}: {short(text)!r}")
    return int(text)
