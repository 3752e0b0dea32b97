"""Read a model file and check all of it before anything runs it.

What comes out is a valid ONNX model in float32, its nodes in execution order, its weights in
memory, and small enough to work with. Whatever is wrong with the file ends here, as a QccError.
"""

from __future__ import annotations

import stat
from pathlib import Path

import onnx

from qcc.errors import QccError, short
from qcc.frontend.external_data import load_external_data
from qcc.frontend.files import opened, read_at
from qcc.frontend.structure import check_schema, check_structure
from qcc.frontend.weights import check_weights, to_float32

MAX_MODEL_BYTES = 1 << 29
"""The largest model file; checking it takes several copies in memory."""


def load_model(path: Path) -> onnx.ModelProto:
    """The model in file *path*, checked and converted to float32 (see ``check_model``).

    External data is read from the model's own folder only.

    Raises:
        QccError: saying what is wrong with the file.
    """
    name = short(path.name or str(path))
    try:
        model = _parse(_read(path))
        load_external_data(model, path.parent)
        return _checked(model)
    except QccError as error:
        raise _prefixed(name, error) from error
    except (RecursionError, MemoryError) as error:
        raise QccError(f"{name}: too large or too deeply nested to read") from error
    except FileNotFoundError as error:
        raise QccError(f"{name}: there is no such file") from error
    except OSError as error:
        raise QccError(f"{name}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # whatever a hostile file provokes in the libraries
        raise QccError(f"{name}: not a valid ONNX model: {_line(error)}") from error


def check_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of *model*, checked: structure, versions, weights; the nodes in execution order.

    Values of float16, bfloat16 and double become float32 everywhere (weights, constants, inputs,
    outputs, casts): qcc chooses its own integer formats, and float32 is where it starts.

    Raises:
        QccError: saying what is wrong with the model.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    try:
        return _checked(copy)
    except QccError:
        raise
    except Exception as error:  # as in load_model
        raise QccError(f"not a valid ONNX model: {_line(error)}") from error


def _checked(model: onnx.ModelProto) -> onnx.ModelProto:
    """*model* itself, changed in place."""
    check_structure(model)
    check_weights(model)
    to_float32(model)
    check_schema(model)
    return model


def _read(path: Path) -> bytes:
    if "\0" in str(path):
        raise QccError("the file name holds a zero byte")
    with opened(path) as (fd, info):
        if stat.S_ISDIR(info.st_mode):
            raise QccError("this is a folder; give the .onnx file in it")
        if not stat.S_ISREG(info.st_mode):
            raise QccError("this is not a regular file")
        if info.st_size == 0:
            raise QccError("the file is empty")
        if info.st_size > MAX_MODEL_BYTES:
            raise QccError(
                f"the file has {info.st_size >> 20} MiB;"
                f" models of at most {MAX_MODEL_BYTES >> 20} MiB are read"
            )
        return read_at(fd, 0, info.st_size)


def _parse(data: bytes) -> onnx.ModelProto:
    try:
        model: onnx.ModelProto = onnx.ModelProto.FromString(data)
    except Exception:  # protobuf's DecodeError, which has no type stubs
        raise QccError("not an ONNX model, or a truncated one") from None
    if not model.HasField("graph"):
        raise QccError("not an ONNX model, or one without a graph")
    return model


def _prefixed(name: str, error: QccError) -> QccError:
    return type(error)(f"{name}: {error.message}", error.hints)


def _line(error: Exception) -> str:
    """The first line that says something of a library's exception."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return short(lines[0], 160) if lines else type(error).__name__
