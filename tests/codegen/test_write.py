"""write: a folder is complete or as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcc.codegen.write import check_writable, write_files
from qcc.errors import QccError, UsageError

FILES = {"m.c": "new\n", "check/check.c": "new\n", "manifest.json": '{"files": ["m.c"]}\n'}


def tree(folder: Path) -> dict[str, str]:
    files = (p for p in sorted(folder.rglob("*")) if p.is_file())
    return {str(p.relative_to(folder)): p.read_text() for p in files}


def test_a_new_folder_holds_the_files_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    write_files(FILES, tmp_path / "a" / "out")
    assert tree(tmp_path / "a" / "out") == FILES
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["out"]


def test_an_existing_folder_keeps_what_is_not_ours(tmp_path: Path) -> None:
    write_files({**FILES, "old.c": "old\n", "manifest.json": '{"files": ["old.c"]}'}, tmp_path)
    (tmp_path / "mine.txt").write_text("mine\n")
    write_files(FILES, tmp_path)
    assert tree(tmp_path) == {**FILES, "mine.txt": "mine\n"}


def test_an_existing_folder_may_be_another_file_system(tmp_path: Path) -> None:
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system")
    import tempfile

    with tempfile.TemporaryDirectory(dir=shm) as elsewhere:
        (tmp_path / "out").symlink_to(elsewhere)
        write_files(FILES, tmp_path / "out")
        assert tree(Path(elsewhere)) == FILES


@pytest.mark.parametrize("blocked", ["manifest.json", "check"])
def test_nothing_is_replaced_where_one_file_cannot_be(tmp_path: Path, blocked: str) -> None:
    (tmp_path / "m.c").write_text("old\n")
    if blocked == "check":
        (tmp_path / "check").write_text("a file\n")
    else:
        (tmp_path / blocked).mkdir()
    before = tree(tmp_path)
    with pytest.raises(QccError, match="output"):
        write_files(FILES, tmp_path)
    assert tree(tmp_path) == before
    assert not list(tmp_path.glob(".qcc-*"))


def test_a_folder_in_use_needs_force(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine\n")
    with pytest.raises(UsageError, match="not empty"):
        check_writable(tmp_path, force=False)
    check_writable(tmp_path, force=True)
    with pytest.raises(QccError, match="a file of that name"):
        check_writable(tmp_path / "mine.txt", force=True)
