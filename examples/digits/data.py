"""Write the digits data: digits_calib.npz (from the training part) and digits_eval.npz.

The images are scikit-learn's copy of the UCI "Optical Recognition of Handwritten Digits" test set:
1,797 images of 8x8 pixels with values 0..16. They ship inside the scikit-learn package, so nothing
is downloaded.

    python examples/digits/data.py build/digits
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits

Array = npt.NDArray[Any]

SPLIT_SEED = 20
EVAL_SHARE = 0.25
CALIBRATION_SAMPLES = 200


class Digits(NamedTuple):
    """Images (n, 1, 8, 8) float32 with values 0..16, labels (n,) int64."""

    train_x: Array
    train_y: Array
    eval_x: Array
    eval_y: Array


def load() -> Digits:
    """The digits, each class split alike into a training and an evaluation part."""
    raw = load_digits()
    x = np.asarray(raw.images, np.float32)[:, None]
    y = np.asarray(raw.target, np.int64)
    rng = np.random.default_rng(SPLIT_SEED)
    held_out = np.zeros(len(y), bool)
    for digit in range(10):
        members = rng.permutation(np.flatnonzero(y == digit))
        held_out[members[: round(EVAL_SHARE * len(members))]] = True
    return Digits(x[~held_out], y[~held_out], x[held_out], y[held_out])


def calibration(digits: Digits) -> tuple[Array, Array]:
    """The first samples of the training part: calibration never sees what is evaluated."""
    return digits.train_x[:CALIBRATION_SAMPLES], digits.train_y[:CALIBRATION_SAMPLES]


def main() -> None:
    parser = argparse.ArgumentParser(description="write digits_calib.npz and digits_eval.npz")
    parser.add_argument("folder", type=Path, help="where to write them")
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    digits = load()
    x, y = calibration(digits)
    np.savez_compressed(folder / "digits_calib.npz", x=x, y=y)
    np.savez_compressed(folder / "digits_eval.npz", x=digits.eval_x, y=digits.eval_y)
    print(f"{folder}: {len(y)} images to calibrate with, {len(digits.eval_y)} to measure on")


if __name__ == "__main__":
    main()
