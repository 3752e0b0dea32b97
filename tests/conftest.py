"""Fixtures that every test may use: golden texts."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

# onnxruntime reads this when it is imported, which test modules do at their own pace.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

TESTS = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Compare a text with tests/golden/<module>/<test>.txt, or rewrite it on --update-golden.

    A module in a folder of tests/ keeps the folder: tests/passes/test_x.py compares with
    tests/golden/passes/test_x/<test>.txt. Once a test: the file is the test's own.
    """
    name = str(request.node.name).replace("/", "_")
    module = request.path.relative_to(TESTS).with_suffix("")
    path = TESTS / "golden" / module / f"{name}.txt"
    used = False

    def check(text: str) -> None:
        nonlocal used
        assert not used, "one golden text a test"
        used = True
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
            return
        where = path.relative_to(TESTS.parent)
        assert path.exists(), f"no {where}; run pytest --update-golden, then read what it wrote"
        assert text == path.read_bytes().decode(), f"{where} differs"

    return check
