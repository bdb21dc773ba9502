"""What all benchmarks share: taking the fastest of several tries, and writing what was measured."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import numpy as np

RESULTS = Path(__file__).parent / "results"

Found = TypeVar("Found")


def best_of(repeats: int, run: Callable[[], Found]) -> tuple[float, Found]:
    """Return the seconds of the fastest of ``repeats`` runs, and what the last one returned."""
    fastest_s = float("inf")
    for _ in range(repeats):
        started = perf_counter()
        found = run()
        fastest_s = min(fastest_s, perf_counter() - started)
    return fastest_s, found


def write_report(report: dict[str, Any], path: Path | None, name: str) -> None:
    """Write ``report`` with what it was measured on to ``path``, by default to the folder of results."""
    path = path or RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    machine = {"python": platform.python_version(), "numpy": np.__version__, "cpus": os.cpu_count()}
    path.write_text(json.dumps({**report, "machine": machine}, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path}")
