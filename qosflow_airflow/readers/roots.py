"""The boundary around bundles: whoever may start a build may not read just any file of the worker."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path

from qosflow_airflow.exceptions import BundleError

SETTING = "[qosflow] bundle_roots"


def check_inside(path: str | Path, roots: Iterable[str | Path]) -> Path:
    """Return ``path`` with symbolic links resolved, when it lies below one of ``roots``.

    Of a folder, every entry must lie there too and be a file or a folder; what lies in its subfolders is not
    looked at, as no reader opens it. The message is the same whether a path outside the roots exists or not.

    Raises
    ------
    BundleError
        When the path, or an entry of the folder, lies outside the roots or is a special file; when there is
        no such path; when there are no roots.
    """
    resolved = tuple(_resolve(root) for root in roots)
    if not resolved:
        raise BundleError(
            "no folder is configured to read bundles from", cure=f"Name the folders in the setting {SETTING}."
        )
    real = _inside(Path(path), resolved)
    _check_kind(real, Path(path))
    if real.is_dir():
        for entry in _entries(real):
            _check_kind(_inside(entry, resolved), entry)
    return real


def check_place(path: str | Path, roots: Iterable[str | Path], setting: str) -> Path:
    """Return ``path`` with symbolic links resolved, when it lies below one of ``roots``; it need not exist.

    Raises
    ------
    BundleError
        When it lies outside the roots, or there are none; the message names the ``setting`` that has them.
    """
    resolved = tuple(_resolve(root) for root in roots)
    real = _resolve(path)
    if not any(real.is_relative_to(root) for root in resolved):
        raise BundleError(
            "lies outside the folders that are allowed",
            source=path,
            cure=f"Choose a folder below one of the setting {setting}, or add its folder there.",
        )
    return real


def _inside(path: Path, roots: Iterable[Path]) -> Path:
    real = _resolve(path)
    if not any(real.is_relative_to(root) for root in roots):
        raise BundleError(
            "lies outside the folders that bundles are read from",
            source=path,
            cure=f"Move it below one of the folders of the setting {SETTING}, or add its folder there.",
        )
    return real


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise _unreadable(folder, error) from None


def _check_kind(real: Path, shown: Path) -> None:
    try:
        mode = real.stat().st_mode
    except OSError as error:
        raise _unreadable(shown, error) from None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise BundleError("is neither a file nor a folder", source=shown, cure="Remove it from the bundle.")


def _unreadable(path: Path, error: OSError) -> BundleError:
    return BundleError(f"cannot be read: {error.strerror}", source=path, cure="Check the path.")


def _resolve(path: str | Path) -> Path:
    try:
        return Path(path).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, or a NUL character
        raise BundleError(f"cannot be resolved: {error}", source=path, cure="Check the path.") from None
