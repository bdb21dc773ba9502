"""Remake constraints/constraints-3.*.txt: one tested version of every dependency, for each supported Python.

The files hold versions only. Hashes, index addresses and comments are left out on purpose: a user's own
mirror must serve them just as well, and a file that names neither host nor folder reads the same everywhere.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON_VERSIONS = ("3.11", "3.12", "3.13")
EXTRAS = ("embedded", "celery", "darshan", "figures", "dev")

# The Airflow that the tests run on; setup.py allows a range of them. Change this line to move to another.
AIRFLOW = "apache-airflow==3.3.2"


def compile_constraints(python_version: str) -> str:
    """Resolve the dependencies for one Python on Linux and return sorted ``name==version`` lines."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "setup.py", "-"]
    command += [f"--extra={extra}" for extra in EXTRAS]
    command += [f"--python-version={python_version}", "--python-platform=linux", "--upgrade", "--quiet"]
    command += ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"]
    result = subprocess.run(command, cwd=ROOT, input=AIRFLOW, text=True, stdout=subprocess.PIPE, check=True)
    return result.stdout


def main() -> int:
    """Write the three files; on failure the message of the resolver is the last thing shown."""
    for python_version in PYTHON_VERSIONS:
        path = ROOT / "constraints" / f"constraints-{python_version}.txt"
        try:
            lines = compile_constraints(python_version)
        except subprocess.CalledProcessError as error:
            print(f"No set of versions found for Python {python_version}; see above.", file=sys.stderr)
            return error.returncode
        path.parent.mkdir(exist_ok=True)
        path.write_text(lines, encoding="utf-8")
        print(f"{path.relative_to(ROOT)}: {len(lines.splitlines())} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
