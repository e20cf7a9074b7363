"""Processes that work beside each other, and end with their parent: in silence at Ctrl-C, and when it is killed."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from robot_rl.errors import RobotRlError

Item = TypeVar("Item")
Result = TypeVar("Result")
Map = Callable[[Callable[[Item], Result], Sequence[Item]], Iterator[Result]]
INTERRUPT = {signal.SIGINT}


@contextmanager
def process_pool(jobs: int) -> Iterator[Map]:
    """A `map` over `jobs` processes; `RobotRlError` when one of them dies."""
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _begin) as pool:

        def run(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPT)  # a new process inherits it: see `_begin`
            try:
                waiting = [pool.submit(function, item) for item in items]
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            for one in waiting:
                yield one.result()

        try:
            yield run
        except BaseException as error:
            pool.shutdown(cancel_futures=True)
            if not isinstance(error, BrokenProcessPool):
                raise
            raise RobotRlError(
                "a process died (out of memory?); what was whole is kept, run again to go on, with fewer --jobs"
            ) from error


def _begin() -> None:
    """Ctrl-C, which the terminal sends to all, ends a process without a word: the parent says what there is to say.

    While its modules were imported it was held back. And it would wait for ever for more work from a parent that was
    killed.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPT)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
