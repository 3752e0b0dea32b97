"""Sample data: every form that is promised, and a clear refusal of everything else."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcc.errors import QccError, UsageError
from qcc.frontend import calibration
from qcc.frontend.calibration import load_labelled, load_samples
from qcc.ir import Array

NCHW, NHWC = (1, 3, 4, 5), (1, 4, 5, 3)
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 4, 5, 3)).astype(np.uint8)


def npz(folder: Path, **arrays: Any) -> Path:
    path = folder / "data.npz"
    np.savez(path, **arrays)
    return path


def refusal(path: Path, shape: tuple[int, ...] = NHWC, **options: Any) -> QccError:
    """The error for a model with one input "x" of *shape*; one line, no long text."""
    with pytest.raises(QccError) as info:
        load_samples(path, {"x": shape}, **options)
    assert "\n" not in info.value.message
    assert len(info.value.message) < 400
    return info.value


# -- .npz ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 4, 5, 3), (6, 1, 4, 5, 3)])
def test_batch_axis_may_be_there_or_not(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x = load_samples(npz(tmp_path, x=IMAGES.reshape(shape)), {"x": NHWC})["x"]
    assert x.dtype == np.float32
    assert x.shape == (6, 1, 4, 5, 3)
    np.testing.assert_array_equal(x[:, 0], IMAGES)


def test_axes_of_length_one_do_not_matter(tmp_path: Path) -> None:
    gray = IMAGES[..., 0]
    for shape in ((1, 1, 4, 5), (1, 4, 5, 1)):
        x = load_samples(npz(tmp_path, x=gray), {"x": shape})["x"]
        np.testing.assert_array_equal(x, gray.reshape(6, *shape))


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "int16", "uint16", "int64", "float16", "float32", "float64", ">f4"]
)
def test_numbers_of_every_type_become_float32(tmp_path: Path, dtype: str) -> None:
    raw = (IMAGES // 2).astype(dtype)
    x = load_samples(npz(tmp_path, x=raw), {"x": NHWC}, 3.0, 2.0)["x"]
    assert x.dtype == np.dtype(np.float32)
    assert x.flags.c_contiguous
    np.testing.assert_array_equal(x[:, 0], (raw.astype(np.float32) - 3) / 2)


def test_fortran_order_and_compression(tmp_path: Path) -> None:
    path = tmp_path / "f.npz"
    np.savez_compressed(path, x=np.asfortranarray(IMAGES))
    np.testing.assert_array_equal(load_samples(path, {"x": NHWC})["x"][:, 0], IMAGES)


@pytest.mark.parametrize(("shape", "axis"), [(NHWC, 4), (NCHW, 2)])
def test_mean_and_std_go_along_the_channels(
    tmp_path: Path, shape: tuple[int, ...], axis: int
) -> None:
    raw = RNG.normal(size=(2, *shape)).astype(np.float32)
    mean, std = [1.0, 2.0, 3.0], [2.0, 4.0, 8.0]
    x = load_samples(npz(tmp_path, x=raw), {"x": shape}, mean, std)["x"]
    along = [-1 if a == axis else 1 for a in range(5)]
    expected = (raw - np.array(mean, np.float32).reshape(along)) / np.array(
        std, np.float32
    ).reshape(along)
    np.testing.assert_array_equal(x, expected)


def test_mean_per_feature_of_a_flat_input(tmp_path: Path) -> None:
    x = load_samples(npz(tmp_path, x=np.ones((2, 3))), {"x": (1, 3)}, [1.0, 2.0, 3.0])["x"]
    assert x[1].tolist() == [[0.0, -1.0, -2.0]]


@pytest.mark.parametrize("shape", [(1, 3, 4, 3), (1, 3, 3, 3)])
def test_channels_that_may_be_either_axis_are_refused(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    path = npz(tmp_path, x=np.zeros((2, *shape)))
    with pytest.raises(UsageError, match="both axis 1 and the last"):
        load_samples(path, {"x": shape}, mean=[1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"mean": [1.0, 2.0]}, "--mean gives 2 values.*neither"),
        ({"std": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]}, "--std gives 6 values"),
        ({"std": 0.0}, "--std holds a zero"),
        ({"std": [1.0, 0.0, 1.0]}, "--std holds a zero"),
        ({"mean": float("nan")}, "--mean: expected one finite number"),
        ({"mean": 1e300}, "--mean: expected one finite number"),
        ({"mean": []}, "--mean: expected one finite number"),
    ],
)
def test_bad_mean_and_std_are_usage_errors(
    tmp_path: Path, options: dict[str, Any], text: str
) -> None:
    with pytest.raises(UsageError, match=text):
        load_samples(npz(tmp_path, x=IMAGES), {"x": NHWC}, **options)


def test_arrays_are_found_by_the_names_of_the_inputs(tmp_path: Path) -> None:
    arrays = {"a/b:0": np.ones((3, 2)), "y": np.zeros((3, 1, 4)), "spare": np.ones(7)}
    x = load_samples(npz(tmp_path, **arrays), {"a/b:0": (1, 2), "y": (1, 4)})
    assert {name: value.shape for name, value in x.items()} == {"a/b:0": (3, 1, 2), "y": (3, 1, 4)}


def test_single_array_serves_under_any_name(tmp_path: Path) -> None:
    for name in ("images", "y"):
        assert len(load_samples(npz(tmp_path, **{name: IMAGES}), {"x": NHWC})["x"]) == 6


def test_labels_names_and_masks_are_no_candidates(tmp_path: Path) -> None:
    names = np.array([f"image{i}" for i in range(6)])
    arrays = {"images": IMAGES, "y": np.arange(6), "name": names, "official": names == "image1"}
    assert len(load_samples(npz(tmp_path, **arrays), {"input_1": NHWC})["input_1"]) == 6


def test_only_array_that_fits_is_taken(tmp_path: Path) -> None:
    path = npz(tmp_path, big=np.zeros((6, 8, 8, 3)), small=IMAGES)
    np.testing.assert_array_equal(load_samples(path, {"x": NHWC})["x"][:, 0], IMAGES)


def test_several_that_fit_are_not_guessed_between(tmp_path: Path) -> None:
    error = refusal(npz(tmp_path, one=IMAGES, two=IMAGES))
    assert "one, two could all be input 'x'" in error.message


def test_none_that_fits_lists_what_is_there(tmp_path: Path) -> None:
    error = refusal(npz(tmp_path, one=np.zeros((6, 2)), two=np.zeros(3)))
    assert "no array has the shape (N, 4, 5, 3) of input 'x'" in error.message
    assert error.hints == ("it holds one (6, 2), two (3,)",)
    assert "no array has the shape" in refusal(npz(tmp_path)).message


def test_missing_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(QccError, match=r"data\.npz: no array for input 'b'"):
        load_samples(npz(tmp_path, a=IMAGES), {"a": NHWC, "b": NHWC})


def test_counts_have_to_agree(tmp_path: Path) -> None:
    path = npz(tmp_path, a=np.ones((3, 2)), b=np.ones((4, 2)))
    with pytest.raises(QccError, match="'a' has 3, 'b' has 4"):
        load_samples(path, {"a": (1, 2), "b": (1, 2)})


# -- shapes and values that are refused ---------------------------------------------------------


def test_wrong_shape_names_array_found_and_expected(tmp_path: Path) -> None:
    error = refusal(npz(tmp_path, x=np.zeros((6, 9))))
    expected = "data.npz: array 'x' has shape (6, 9), but input 'x' takes (N, 4, 5, 3)"
    assert error.message == expected


def test_other_layout_is_refused_with_the_transpose_that_fits(tmp_path: Path) -> None:
    error = refusal(npz(tmp_path, x=IMAGES), NCHW)
    assert "takes (N, 3, 4, 5)" in error.message
    assert "array.transpose(0, 3, 1, 2)" in error.hints[0]
    assert IMAGES.transpose(0, 3, 1, 2).shape[1:] == NCHW[1:]
    error = refusal(npz(tmp_path, x=IMAGES.transpose(0, 3, 1, 2)), NHWC)
    assert "array.transpose(0, 2, 3, 1)" in error.hints[0]
    error = refusal(npz(tmp_path, x=IMAGES.transpose(0, 2, 1, 3)), NHWC)
    assert "same axes in another order" in error.hints[0]


def test_one_sample_without_its_axis_gets_a_hint(tmp_path: Path) -> None:
    assert "add a leading axis" in refusal(npz(tmp_path, x=IMAGES[0])).hints[0]


def test_scalars_and_empty_stacks_are_refused(tmp_path: Path) -> None:
    assert "has shape ()" in refusal(npz(tmp_path, x=np.float32(3))).message
    assert "has no samples" in refusal(npz(tmp_path, x=IMAGES[:0])).message


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_by_array_and_sample(tmp_path: Path, bad: float) -> None:
    raw = IMAGES.astype(np.float32)
    raw[4, 0, 0, 0] = bad
    error = refusal(npz(tmp_path, x=raw))
    assert error.message == "data.npz: array 'x': sample 4 holds NaN or infinity (float32)"


def test_what_overflows_float32_is_refused(tmp_path: Path) -> None:
    assert "sample 0 holds NaN" in refusal(npz(tmp_path, x=np.full((1, 4, 5, 3), 1e300))).message


@pytest.mark.parametrize("dtype", ["complex64", "bool", "U3", "M8[s]"])
def test_other_types_are_refused(tmp_path: Path, dtype: str) -> None:
    error = refusal(npz(tmp_path, x=np.zeros((6, 4, 5, 3), dtype)))
    assert "expected integers or floats" in error.message


# -- hostile files ------------------------------------------------------------------------------


class Trap:
    """Unpickling it leaves a mark."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["QCC_TEST_TRAP"],)


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    mark = tmp_path / "unpickled"
    monkeypatch.setenv("QCC_TEST_TRAP", str(mark))
    return mark


def test_pickles_are_never_opened(tmp_path: Path, trap: Path) -> None:
    path = npz(tmp_path, x=np.array([Trap()], dtype=object))
    assert "array 'x' holds Python objects" in refusal(path).message
    (tmp_path / "raw.npz").write_bytes(pickle.dumps(Trap()))
    assert "neither .npz nor .npy" in refusal(tmp_path / "raw.npz").message
    np.save(tmp_path / "o.npy", np.array([Trap()], dtype=object))
    assert "holds Python objects" in refusal(tmp_path / "o.npy").message
    assert not trap.exists()


def test_pickled_names_beside_the_samples_do_no_harm(tmp_path: Path, trap: Path) -> None:
    path = npz(tmp_path, x=IMAGES, name=np.array([Trap()], dtype=object))
    assert len(load_samples(path, {"x": NHWC})["x"]) == 6
    assert not trap.exists()


def npy_header(shape: tuple[int, ...], dtype: str = "|u1", version: int = 1) -> bytes:
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(10 + len(text) + 1) % 64) + b"\n"
    size = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + size + text


def test_header_that_promises_too_much_is_refused_before_loading(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(npy_header((1 << 40, 4, 5, 3)) + b"\0" * 100)
    assert "is damaged" in refusal(path).message
    path.write_bytes(npy_header((-1, 4, 5, 3)))
    assert "is damaged" in refusal(path).message


def test_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    """3 GiB of zeros in 3 MiB: made by repeating a compressed block, read by nobody."""
    header, count = npy_header((53_687_091, 4, 5, 3)), 53_687_091 * 60
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(header) + packer.flush(zlib.Z_FULL_FLUSH)
    block = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = block.compress(bytes(1 << 20)) + block.flush(zlib.Z_FULL_FLUSH)
    packed += piece * (count >> 20)
    size = len(header) + count
    name = b"x.npy"
    fields = (20, 0, 8, 0, 33, 0, len(packed), size, len(name), 0)
    local = struct.pack("<IHHHHHIIIHH", 0x04034B50, *fields) + name + packed
    central = struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 20, *fields, 0, 0, 0, 0, 0) + name
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 1, 1, len(central), len(local), 0)
    path = tmp_path / "bomb.npz"
    path.write_bytes(local + central + end)
    assert path.stat().st_size < 8 << 20
    assert "at most 2 GiB are read" in refusal(path).message


def test_limit_counts_float32_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "LIMIT_BYTES", IMAGES.size * 4 - 1)
    assert "keep fewer samples" in refusal(npz(tmp_path, x=IMAGES)).message


def test_array_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.npz"
    buffer = io.BytesIO()
    np.save(buffer, IMAGES)
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("x.npy", buffer.getvalue())
        archive.writestr("x.npy", buffer.getvalue())
    assert "occurs twice" in refusal(path).message


def test_missing_files_and_odd_files_are_refused(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none.npz").message
    os.mkfifo(tmp_path / "fifo")
    assert "not a regular file" in refusal(tmp_path / "fifo").message
    (tmp_path / "t.csv").write_text("1,2,3\n")
    assert "neither .npz nor .npy" in refusal(tmp_path / "t.csv").message
    (tmp_path / "empty.npz").touch()
    assert "neither .npz nor .npy" in refusal(tmp_path / "empty.npz").message


def test_newer_npy_format_for_records_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(npy_header((1,), version=3))
    assert "format (3, 0)" in refusal(tmp_path / "x.npy").message


@given(st.binary(max_size=60), st.integers(0, 2000), st.booleans())
@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_damaged_files_are_one_sentence_or_right(
    tmp_path: Path, junk: bytes, at: int, compressed: bool
) -> None:
    path = tmp_path / "data.npz"
    (np.savez_compressed if compressed else np.savez)(path, x=IMAGES, y=np.arange(6))
    data = path.read_bytes()
    path.write_bytes(data[:at] + junk + data[at + len(junk) :])
    check_refused_or_right(path)
    path.write_bytes(data[: at % len(data)])
    check_refused_or_right(path)
    np.save(tmp_path / "x.npy", IMAGES)
    data = (tmp_path / "x.npy").read_bytes()
    at %= 128
    (tmp_path / "x.npy").write_bytes(data[:at] + junk + data[at + len(junk) :])
    check_refused_or_right(tmp_path / "x.npy")


def check_refused_or_right(path: Path) -> None:
    message, shape = "", NHWC
    try:
        shape = load_labelled(path, {"x": NHWC})[0]["x"].shape[1:]
    except QccError as error:
        message = error.message
    assert "\n" not in message
    assert shape == NHWC


# -- .npy, folders, images ----------------------------------------------------------------------


def test_single_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "any.npy", IMAGES)
    np.testing.assert_array_equal(
        load_samples(tmp_path / "any.npy", {"x": NHWC})["x"][:, 0], IMAGES
    )


def test_folder_of_npy_mixes_samples_and_stacks_in_the_order_of_names(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", IMAGES[0])
    np.save(tmp_path / "b.npy", IMAGES[1:4].astype(np.float64))
    np.save(tmp_path / "c.npy", IMAGES[4:5])
    np.save(tmp_path / "d.npy", IMAGES[5:6, None])
    (tmp_path / "README").write_text("ignored")
    x = load_samples(tmp_path, {"x": NHWC}, mean=1.0)["x"]
    np.testing.assert_array_equal(x[:, 0], IMAGES.astype(np.float32) - 1)


def test_folder_names_the_file_at_fault(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", IMAGES)
    np.save(tmp_path / "b.npy", np.full((4, 5, 3), np.nan))
    assert refusal(tmp_path).message == "b.npy holds NaN or infinity (float32)"
    np.save(tmp_path / "b.npy", np.zeros((3, 4, 5)))
    error = refusal(tmp_path)
    assert error.message.startswith("b.npy has shape (3, 4, 5), but input 'x' takes")


def test_folder_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", IMAGES)
    np.save(tmp_path / "labels.npy", np.arange(6))
    samples, labels = load_labelled(tmp_path, {"x": NHWC})
    assert len(samples["x"]) == 6
    assert labels is not None
    assert labels.tolist() == list(range(6))


def test_folder_needs_one_kind_of_file_and_one_input(tmp_path: Path) -> None:
    assert "holds neither" in refusal(tmp_path).message
    (tmp_path / "a.png").touch()
    np.save(tmp_path / "a.npy", IMAGES)
    assert "holds both" in refusal(tmp_path).message
    with pytest.raises(QccError, match="a folder serves a model with one input, this one has 2"):
        load_samples(tmp_path, {"a": NHWC, "b": NHWC})


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, pixels in enumerate(IMAGES):
        image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def test_images_of_the_right_size_are_their_pixels_in_either_layout(pictures: Path) -> None:
    nhwc = load_samples(pictures, {"x": NHWC})["x"]
    np.testing.assert_array_equal(nhwc[:, 0], IMAGES)
    nchw = load_samples(pictures, {"x": NCHW})["x"]
    np.testing.assert_array_equal(nchw[:, 0], IMAGES.transpose(0, 3, 1, 2))


def test_images_are_resized_and_turned_gray(pictures: Path) -> None:
    from PIL import Image

    x = load_samples(pictures, {"x": (1, 1, 8, 6)}, 0.0, 255.0)["x"]
    image = Image.fromarray(IMAGES[2]).convert("L").resize((6, 8), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(x[2, 0, 0], np.asarray(image, np.float32) / np.float32(255))
    assert load_samples(pictures, {"x": (1, 8, 6, 1)})["x"].shape == (6, 1, 8, 6, 1)
    assert load_samples(pictures, {"x": (1, 8, 6)})["x"].shape == (6, 1, 8, 6)


@pytest.mark.parametrize("shape", [(1, 3, 9, 3), (1, 640), (1, 4, 5, 2), (2, 3, 8, 8)])
def test_images_for_inputs_that_are_none_for_sure_are_refused(
    pictures: Path, shape: tuple[int, ...]
) -> None:
    assert "is no NCHW or NHWC image" in refusal(pictures, shape).message


def test_palettes_and_alpha_become_rgb(pictures: Path) -> None:
    from PIL import Image

    Image.fromarray(IMAGES[0]).convert("RGBA").save(pictures / "0.png")
    Image.fromarray(IMAGES[1]).quantize(256).save(pictures / "1.png")
    x = load_samples(pictures, {"x": NHWC})["x"]
    np.testing.assert_array_equal(x[:, 0], IMAGES)


def test_broken_deep_and_huge_images_are_refused_by_name(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    (pictures / "3.png").write_bytes((pictures / "3.png").read_bytes()[:50])
    assert refusal(pictures).message.startswith("3.png cannot be read: ")
    Image.fromarray(IMAGES[0, :, :, 0].astype(np.uint16) * 257).save(pictures / "3.png")
    assert "3.png has more than 8 bits" in refusal(pictures).message
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 12)
    assert "0.png cannot be read: Image size (20 pixels) exceeds" in refusal(pictures).message


def test_missing_pillow_says_what_to_install(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without_pillow(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("PIL"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_pillow)
    assert "pip install 'qcc[images]'" in refusal(pictures).message


# -- labels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["y", "label", "labels", "target", "targets"])
@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32"])
def test_labels_come_with_the_samples(tmp_path: Path, name: str, dtype: str) -> None:
    path = npz(tmp_path, **{"x": IMAGES, name: np.arange(6, dtype=dtype).reshape(6, 1)})
    samples, labels = load_labelled(path, {"x": NHWC}, mean=2.0)
    assert labels is not None
    assert labels.dtype == np.int64
    assert labels.tolist() == list(range(6))
    np.testing.assert_array_equal(samples["x"][:, 0], IMAGES.astype(np.float32) - 2)


def test_there_may_be_no_labels(tmp_path: Path) -> None:
    assert load_labelled(npz(tmp_path, x=IMAGES), {"x": NHWC})[1] is None
    # The only array is the input even if it is called y, so it is not the labels, too.
    assert load_labelled(npz(tmp_path, y=IMAGES), {"x": NHWC})[1] is None


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (np.arange(5), "expected 6 labels, one per sample"),
        (np.zeros((6, 10)), "expected 6 labels, one per sample"),
        (np.full(6, 0.5), "not fractions"),
        (np.full(6, np.nan), "not arbitrary reals"),
        (np.array(["a"] * 6), "expected integers or floats"),
    ],
)
def test_bad_labels_are_refused_but_only_where_they_are_asked_for(
    tmp_path: Path, labels: Array, text: str
) -> None:
    path = npz(tmp_path, x=IMAGES, y=labels)
    with pytest.raises(QccError, match=f"array 'y'.*{text}"):
        load_labelled(path, {"x": NHWC})
    assert len(load_samples(path, {"x": NHWC})["x"]) == 6


# -- real data ----------------------------------------------------------------------------------

DATA = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
@pytest.mark.parametrize(
    ("file", "shape", "count"),
    [
        ("ic_calib.npz", (1, 32, 32, 3), 500),
        ("kws_calib.npz", (1, 49, 10, 1), 99),
        ("vww_calib.npz", (1, 96, 96, 3), 48),
        ("ad_calib.npz", (1, 640), 500),
        ("mnist_eval.npz", (1, 1, 28, 28), 5000),
    ],
)
def test_real_calibration_sets(file: str, shape: tuple[int, ...], count: int) -> None:
    assert load_samples(DATA / file, {"input_1": shape})["input_1"].shape == (count, *shape)
