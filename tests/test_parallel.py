"""Work in processes: results in order, errors as they are, nothing left behind."""

from __future__ import annotations

import multiprocessing
import os
import time

import pytest

from qcc.errors import QccError
from qcc.parallel import default_jobs, run_tasks


def scaled(factor: int, task: int) -> int:
    time.sleep(0.02 * (3 - task))  # the first takes longest
    return factor * task


def process(_: None, __: int) -> tuple[int, str | None]:
    return os.getpid(), os.environ.get("OPENBLAS_NUM_THREADS")


def fails(_: None, task: int) -> int:
    if task == 0:
        raise QccError("the model is at fault", ["a hint"])
    time.sleep(60)
    return task


def dies(_: None, task: int) -> int:
    os._exit(3)


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_in_the_order_of_the_tasks(jobs: int) -> None:
    seen: list[tuple[int, int]] = []
    done = run_tasks(scaled, 10, [0, 1, 2, 3], jobs, lambda *counts: seen.append(counts))
    assert done == [0, 10, 20, 30]
    assert seen == [(i, 4) for i in range(1, 5)]


def test_processes_are_others_with_one_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    made = run_tasks(process, None, [0, 1], 2)
    assert all(pid != os.getpid() and threads == "1" for pid, threads in made)
    assert "OPENBLAS_NUM_THREADS" not in os.environ
    assert run_tasks(process, None, [0, 1], 1) == [(os.getpid(), None)] * 2


def test_the_first_error_ends_the_rest_at_once() -> None:
    start = time.monotonic()
    with pytest.raises(QccError, match="at fault") as caught:
        run_tasks(fails, None, [0, 1, 2], 2)
    assert caught.value.hints == ("a hint",)
    assert time.monotonic() - start < 40
    assert not multiprocessing.active_children()


def test_a_killed_process_is_one_line() -> None:
    with pytest.raises(QccError, match="worker process ended early"):
        run_tasks(dies, None, [0, 1], 2)


def test_no_tasks_are_no_work() -> None:
    assert run_tasks(scaled, 1, [], 4) == []
    assert default_jobs() >= 1
