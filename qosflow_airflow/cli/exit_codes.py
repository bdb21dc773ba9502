"""What a command's exit code says."""

from __future__ import annotations

OK = 0
BAD_INPUT = 2
"""Bad input, or a database that cannot be reached."""
INFEASIBLE = 3
"""Nothing is feasible."""
