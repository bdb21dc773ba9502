"""What goes wrong in the workload on purpose: a message that names the file or setting, and the cure."""

from __future__ import annotations


class GenomeError(Exception):
    """The input, a folder or a setting of a task is not what the stage needs."""
