"""What setup.sh says: progress on standard output, and errors that end with what to do."""

from __future__ import annotations

import sys


class SetupError(Exception):
    """Bring-up cannot go on; ``cure`` says what to change."""

    def __init__(self, message: str, cure: str) -> None:
        super().__init__(message)
        self.cure = cure


def say(text: str) -> None:
    """Print one line of progress, at once, so that a log or a pipe shows it while it is true."""
    print(text, flush=True)


def report(error: SetupError) -> None:
    """Print an error and its cure to standard error."""
    lines = [f"setup: {error}", *(f"       {line}" for line in error.cure.splitlines())]
    print("\n" + "\n".join(lines), file=sys.stderr, flush=True)
