"""Figures as files: the same content gives the same file, without dates or names of programs."""

from __future__ import annotations

import io
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from qosflow_airflow.exceptions import QoSFlowError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("svg", "png")
PNG_DPI = 150
RASTER_DPI = 144
"""Resolution of what is drawn as an image inside an SVG."""


def check_drawable(path: Path) -> None:
    """Raise an error unless figures can be drawn here, and to this file.

    Raises
    ------
    QoSFlowError
        When matplotlib is missing, or the file's ending is neither ``.svg`` nor ``.png``.
    """
    if path.suffix.removeprefix(".") not in FORMATS:
        raise QoSFlowError("is not a .svg or .png file", source=path, cure="End its name in .svg or .png.")
    check_matplotlib()


def check_matplotlib() -> None:
    """Raise a :class:`QoSFlowError` that names the extra where matplotlib is missing."""
    if find_spec("matplotlib") is None:
        raise QoSFlowError(
            "figures are drawn with matplotlib, which is not installed",
            cure="Install the extra `figures`: pip install 'airflow-provider-qosflow[figures]'.",
        )


def save(figure: Figure, path: Path, description: str = "") -> None:
    """Write a figure as its file's ending says, making the folder; an SVG can be read out.

    Raises
    ------
    QoSFlowError
        When the file cannot be written.
    """
    content = _svg(figure, description) if path.suffix == ".svg" else _png(figure)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise QoSFlowError(
            f"cannot be written: {error.strerror}", source=path, cure="Give a file that you may write."
        ) from error


def _png(figure: Figure) -> bytes:
    from qosflow_airflow.figures.style import styled

    buffer = io.BytesIO()
    with styled():
        figure.savefig(buffer, format="png", dpi=PNG_DPI, metadata={"Software": None})
    return buffer.getvalue()


def _svg(figure: Figure, description: str) -> bytes:
    from qosflow_airflow.figures.style import styled

    buffer = io.StringIO()
    nameless = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with styled():
        figure.savefig(buffer, format="svg", dpi=RASTER_DPI, metadata=nameless)
    title = str(figure.get_label())
    spoken = f"<title>{escape(title)}</title>\n <desc>{escape(description or title)}</desc>"
    text = re.sub(r"(<svg[^>]*>)", lambda tag: f"{tag[1]}\n {spoken}", buffer.getvalue(), count=1)
    return text.encode()
