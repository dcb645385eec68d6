"""The result of a test set as files: report.json for machines, a page and a sheet for people."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from dad_edge.config import GOOD
from dad_edge.files import write_whole
from dad_edge.image.pictures import (
    COLUMNS,
    Picture,
    contact_sheet,
    heat_legend,
    inspection_row,
    inspection_views,
    write_picture,
)
from dad_edge.report.chart import score_histogram
from dad_edge.report.results import Group, Report, context_data, report_data

_THUMBNAIL_SIDE = 320
_SHEET_ROWS = 3
_LEFT_NONE = "None left beside the images above."
_GROUPS: Sequence[tuple[Group, str, str]] = (
    (
        "worst",
        "Missed defects and false alarms in turn, the farthest off first.",
        "None: no defect was missed and no good part was rejected.",
    ),
    ("borderline", "Closest to the threshold, on either side.", _LEFT_NONE),
    ("best", "The surest defects and the surest good parts.", _LEFT_NONE),
)
"""Each list of examples, what it shows, and what is said where it is empty."""


def write_report(report: Report, folder: Path) -> Path:
    """Write report.json, report.html and, where there are examples, sheet.png.

    A file that was there is replaced whole or not at all. Bytes of a file name that are not UTF-8
    are written as escapes, such as ``\\udce9`` for the byte E9.

    Args:
        report: what was measured.
        folder: made if missing.

    Returns:
        The path of report.html.

    Raises:
        StorageError: the folder cannot be written.
    """
    page = folder / "report.html"
    data = json.dumps(report_data(report), indent=1, allow_nan=False, ensure_ascii=False)
    write_whole(folder / "report.json", _utf8(f"{data}\n"))
    write_whole(page, _utf8(render_page(report)))
    if any(report.examples.values()):
        write_picture(folder / "sheet.png", example_sheet(report))
    return page


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def render_page(report: Report) -> str:
    """The report as one self-contained HTML document without scripts or outside files."""
    good = [image.score for image in report.scores if image.kind == GOOD]
    defective = [image.score for image in report.scores if image.kind != GOOD]
    chart = score_histogram(good, defective, report.threshold) if report.scores else ""
    return _template().render(
        report=report,
        good=len(good),
        defective=len(defective),
        false_alarms=sum(score > report.threshold for score in good),
        missed=sum(score <= report.threshold for score in defective),
        chart=Markup(chart),
        groups=_GROUPS,
        columns=COLUMNS,
        legend=heat_legend(440, 24),
        context=list(_flat(context_data(report.context))),
    )


def example_sheet(report: Report) -> Picture:
    """The first example images of each list as one contact sheet; there must be one.

    Returns:
        (H,W,3) uint8 BGR.
    """
    chosen = {group: report.examples[group][:_SHEET_ROWS] for group, *_ in _GROUPS}
    rows = [inspection_row(image, report.threshold) for group in chosen.values() for image in group]
    counts = ", ".join(f"{len(images)} {group}" for group, images in chosen.items())
    return contact_sheet(rows, COLUMNS, report.title, f"From the top: {counts}.")


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("dad_edge", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"views": inspection_views, "jpeg": _jpeg, "png": _png}
    return environment.get_template("page.html")


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested facts as rows of a table: name and value, a dash for nothing."""
    for key, value in facts.items():
        name = f"{prefix}{key.replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name} · ")
        elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
            yield from _flat({str(place): item for place, item in enumerate(value)}, f"{name} · ")
        elif isinstance(value, list | tuple):
            yield name, ", ".join(map(str, value)) or "–"
        else:
            yield name, "–" if value is None else str(value)


def _jpeg(picture: Picture) -> str:
    scale = min(1.0, _THUMBNAIL_SIDE / max(picture.shape[:2]))
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return _data_uri(small.astype(np.uint8), ".jpg", "image/jpeg", [cv2.IMWRITE_JPEG_QUALITY, 85])


def _png(picture: Picture) -> str:
    return _data_uri(picture, ".png", "image/png", [])


def _data_uri(picture: Picture, ending: str, media_type: str, options: list[int]) -> str:
    _, encoded = cv2.imencode(ending, picture, options)
    return f"data:{media_type};base64,{base64.b64encode(encoded.tobytes()).decode('ascii')}"
