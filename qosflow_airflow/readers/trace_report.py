"""What an import kept of a file, what it left out, and what the file cannot tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TraceReport:
    """Of one import: ``rows`` kept; counts of what was ``dropped`` and ``flagged`` by reason.

    ``unknown`` says what this kind of file does not tell, and what stands instead.
    """

    source: str
    rows: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    flagged: Mapping[str, int] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    def to_text(self) -> str:
        """Return the report in lines."""
        lines = [f"{self.source}: {self.rows:,} rows"]
        lines += [f"  left out: {count:,} {reason}" for reason, count in self.dropped.items() if count]
        lines += [f"  to know: {count:,} {reason}" for reason, count in self.flagged.items() if count]
        lines += [f"  not told: {sentence}" for sentence in self.unknown]
        return "\n".join(lines)
