"""Signals to end, as an exception: what is measured in must be cleaned up."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """The process was told to end."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Turn the first signal to end into :class:`Stopped` and ignore others, in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return

    def stop(number: int, _frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)  # a second Ctrl-C must not interrupt the cleaning up
        raise Stopped(number)

    before = {each: signal.getsignal(each) for each in _SIGNALS}
    # What is ignored stays so: nohup has SIGHUP ignored.
    for each in (each for each, handler in before.items() if handler != signal.SIG_IGN):
        signal.signal(each, stop)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
