"""Make the root folder of an image of the genome workload from this machine's own programs, without Docker.

For clusters without a registry, such as one for tests on this machine: pack the folder as a layer, load it.
Where there is Docker, ``examples/genome/Dockerfile`` makes the same image.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = (
    *("sh", "cat", "cp", "cut", "date", "find", "grep", "kill", "ls", "mkdir", "mv", "rm", "sha256sum"),
    *("df", "du", "head", "od", "sed", "sleep", "sort", "sync", "touch", "wc"),
)
LEFT_OUT = ("test", "idlelib", "site-packages", "__pycache__", "tkinter", "ensurepip", "config-*", "lib2to3")


def make(folder: Path) -> None:
    """Fill ``folder`` with a shell, its tools, Python with numpy, and the workload."""
    for name in ("bin", "tmp", "usr/local/bin", "opt"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    binaries = []
    for name in PROGRAMS:
        found = shutil.which(name)
        if found is None:
            raise SystemExit(f"workload_root: {name} is not on PATH")
        binaries.append(copy(Path(found).resolve(), folder / "bin" / name))
    library = Path(sysconfig.get_path("stdlib"))
    interpreter = Path(sys.executable).resolve()
    binaries.append(copy(interpreter, folder / relative(interpreter)))
    shutil.copytree(library, folder / relative(library), ignore=shutil.ignore_patterns(*LEFT_OUT))
    copy_numpy(folder / relative(library) / "site-packages")
    copy_libraries([*binaries, *folder.rglob("*.so*")], folder)
    (folder / "usr/local/bin/python3").symlink_to(interpreter)
    script = f'#!/bin/sh\nexec {interpreter} /opt/genome/genome.py "$@"\n'
    (folder / "usr/local/bin/genome").write_text(script, encoding="utf-8")
    (folder / "usr/local/bin/genome").chmod(0o755)
    sources = shutil.ignore_patterns("__pycache__", ".*", "*.md", "*.yaml")
    shutil.copytree(ROOT / "examples" / "genome", folder / "opt/genome", ignore=sources)


def relative(path: Path) -> Path:
    """Return an absolute path as one below a root folder."""
    return path.relative_to(path.anchor)


def copy(source: Path, target: Path) -> Path:
    """Copy a file, with its rights, and return the copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)
    return target


def copy_numpy(packages: Path) -> None:
    """Copy numpy and the libraries that its wheel brings."""
    installed = Path(sysconfig.get_path("purelib"))
    for name in ("numpy", "numpy.libs"):
        if (installed / name).exists():
            shutil.copytree(
                installed / name, packages / name, ignore=shutil.ignore_patterns("tests", "__pycache__")
            )


def copy_libraries(binaries: Iterable[Path], folder: Path) -> None:
    """Copy the shared libraries of the binaries to where the loader looks for them."""
    for binary in binaries:
        said = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, check=False).stdout
        for found in re.findall(r"(/\S+) \(0x", said):
            library = Path(found)
            # What the wheel brings is found beside it.
            if not library.is_relative_to(folder) and not (folder / relative(library)).exists():
                copy(library.resolve(), folder / relative(library))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="a new folder")
    folder = parser.parse_args().folder
    if folder.exists():
        raise SystemExit(f"workload_root: {folder} is there already; give a new folder")
    make(folder)
    print(folder)


if __name__ == "__main__":
    main()
