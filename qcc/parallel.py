"""Independent pieces of work in processes of their own.

Processes are spawned, not forked: onnxruntime and the BLAS keep threads that a fork would lose.
Results come in the order of the tasks, so they do not depend on how many processes there are.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from qcc.errors import QccError

State = TypeVar("State")
Task = TypeVar("Task")
Result = TypeVar("Result")

MOST_JOBS = 16
"""Processes at most by default: each holds the model and a piece of the samples."""

_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""What the BLAS libraries read when they are loaded: one thread in each of several processes."""

_state: Any = None
"""What a worker process was given once, for all its tasks."""


def default_jobs() -> int:
    """A process per core that this one may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores or 1, MOST_JOBS)


def run_tasks(
    work: Callable[[State, Task], Result],
    state: State,
    tasks: Sequence[Task],
    jobs: int,
    done: Callable[[int, int], None] | None = None,
) -> list[Result]:
    """``[work(state, task) for task in tasks]``, in *jobs* processes where that is more than one.

    Args:
        work: a function of a module; *state* and tasks are pickled.
        state: given to every process once.
        tasks: any number.
        jobs: processes; with 1 everything happens in this one.
        done: called with (tasks done, tasks in all).

    Raises:
        QccError: a process was killed; and whatever *work* raises.
    """
    jobs = min(jobs, len(tasks))
    if jobs <= 1:
        results = []
        for i, task in enumerate(tasks, 1):
            results.append(work(state, task))
            if done:
                done(i, len(tasks))
        return results
    context = multiprocessing.get_context("spawn")
    with _one_thread_each():
        others = set(multiprocessing.active_children())
        pool = ProcessPoolExecutor(jobs, context, _prepare, (state,))
        try:
            futures = [pool.submit(_run, work, task) for task in tasks]
            _report(futures, done)
            return [f.result() for f in futures]
        except BaseException as e:  # an interrupt too: nobody waits for what is under way
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            if isinstance(e, BrokenProcessPool):
                hint = "it may have needed more memory than there is: try fewer with --jobs"
                raise QccError("a worker process ended early", [hint]) from e
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _report(futures: Sequence[Future[Any]], done: Callable[[int, int], None] | None) -> None:
    """Wait for all in turn; the first error ends the waiting."""
    for i, future in enumerate(futures, 1):
        future.result()
        if done:
            done(i, len(futures))


def _prepare(state: Any) -> None:
    global _state
    _state = state
    # Ctrl-C reaches all processes of a terminal; the first one ends the others in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run(work: Callable[[Any, Any], Any], task: Any) -> Any:
    return work(_state, task)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes that start within the block have one BLAS thread, unless the user said otherwise.

    This process has loaded its BLAS and does not look again.
    """
    added = [name for name in _THREADS if name not in os.environ]
    os.environ.update(dict.fromkeys(added, "1"))
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
