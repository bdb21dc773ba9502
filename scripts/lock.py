"""Remake constraints/constraints-3.*.txt: one tested version of every dependency, for each supported Python.

``python scripts/lock.py [--keep]``: the newest versions; with ``--keep``, those that are there stay.

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


def write_constraints(path: Path, python_version: str, *, keep: bool) -> None:
    """Resolve the dependencies for one Python on Linux and write sorted ``name==version`` lines.

    Versions that the file holds are kept where they fit, if ``keep``.
    """
    command = [sys.executable, "-m", "uv", "pip", "compile", "setup.py", "-", f"--output-file={path}"]
    command += [f"--extra={extra}" for extra in EXTRAS]
    command += [f"--python-version={python_version}", "--python-platform=linux", "--quiet"]
    command += ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"]
    command += [] if keep else ["--upgrade"]
    subprocess.run(command, cwd=ROOT, input=AIRFLOW, text=True, check=True)


def main(arguments: list[str]) -> int:
    """Write the three files; on failure the message of the resolver is the last thing shown."""
    if arguments not in ([], ["--keep"]):
        print("Nothing but --keep can be given.", file=sys.stderr)
        return 2
    for python_version in PYTHON_VERSIONS:
        path = ROOT / "constraints" / f"constraints-{python_version}.txt"
        path.parent.mkdir(exist_ok=True)
        try:
            write_constraints(path, python_version, keep=bool(arguments))
        except subprocess.CalledProcessError as error:
            print(f"No set of versions found for Python {python_version}; see above.", file=sys.stderr)
            return error.returncode
        print(f"{path.relative_to(ROOT)}: {len(path.read_text(encoding='utf-8').splitlines())} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
