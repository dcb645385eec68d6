"""The result of a test set as files: report.json for machines, a page and a sheet for people."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from dad_edge.config import GOOD
from dad_edge.files import write_whole
from dad_edge.image.pictures import (
    COLUMNS,
    InspectedImage,
    Picture,
    contact_sheet,
    heat_legend,
    inspection_row,
    inspection_views,
)
from dad_edge.report.chart import score_histogram

SCHEMA_VERSION = 1
"""Version of the layout of report.json."""

_THUMBNAIL_SIDE = 320
_SHEET_ROWS = 3
FIGURES = {
    "image_auroc": ("Image AUROC", "chance that a defective part outscores a good one"),
    "pixel_auroc": ("Pixel AUROC", "the same for single pixels"),
    "pixel_ap": ("Pixel AP", "average precision over all pixels"),
    "pro": ("PRO", "per-region overlap, up to 30 % false-positive pixels"),
}
"""Key, name and meaning of the summary's figures."""
_GROUPS = {
    "worst": ("Worst", "Missed defects and false alarms in turn, the farthest off first."),
    "borderline": ("Borderline", "Closest to the threshold, on either side."),
    "best": ("Best", "The surest defects and the surest good parts."),
}
_NONE_IN_GROUP = {
    "worst": "None: no defect was missed and no good part was rejected.",
    "borderline": "None left beside the images above.",
    "best": "None left beside the images above.",
}


class ImageScore(NamedTuple):
    """The score of one image of the test set."""

    name: str
    """File name or other short name."""
    kind: str
    """"good" or the name of the defect kind."""
    score: float
    """Image score in [0,1]."""


@dataclass(frozen=True, eq=False)
class Report:
    """What was measured on a test set."""

    title: str
    """Heading, such as the name of the product and split."""
    summary: Mapping[str, float | None]
    """image_auroc, pixel_auroc, pixel_ap and pro, in [0,1]; None where undefined."""
    kinds: Sequence[Mapping[str, Any]]
    """Rows of `dad_edge.report.metrics.kind_table`."""
    threshold: float
    """Image threshold in [0,1]; a part is rejected above it."""
    context: Mapping[str, Any]
    """What made the figures: versions, device, bundle, seed, hashes of the data."""
    scores: Sequence[ImageScore]
    """Every image of the test set, without pictures."""
    examples: Mapping[str, Sequence[InspectedImage]]
    """Lists of `dad_edge.report.examples.ExampleKeeper`: worst, borderline, best."""
    threshold_origin: str = ""
    """Where the threshold comes from, in a few words."""
    undefined: Mapping[str, str] = field(default_factory=dict)
    """Key of each figure that is None → what the test set lacks, in a few words."""


def write_report(report: Report, folder: Path) -> Path:
    """Write report.json, report.html and, where there are examples, sheet.png.

    A file that was there is replaced whole or not at all. Numbers that are not finite become
    null.

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
    write_whole(folder / "report.json", f"{data}\n".encode())
    write_whole(page, render_page(report).encode())
    if any(report.examples.values()):
        _, encoded = cv2.imencode(".png", example_sheet(report))
        write_whole(folder / "sheet.png", encoded.tobytes())
    return page


def render_page(report: Report) -> str:
    """The report as one self-contained HTML document without scripts or outside files."""
    css = resources.files("dad_edge.report").joinpath("page.css").read_text(encoding="utf-8")
    good = [s.score for s in report.scores if s.kind == GOOD]
    defect = [s.score for s in report.scores if s.kind != GOOD]
    figures = "".join(_figure(key, report.summary.get(key), report.undefined) for key in FIGURES)
    body = [
        f"<h1>{escape(report.title)}</h1>",
        f'<p class="note">{len(report.scores)} images: {len(good)} good, '
        f"{len(defect)} defective</p>",
        f'<div class="figures">{figures}</div>',
        _line_up(good, defect, report.threshold, report.threshold_origin),
        "<h2>Scores</h2>",
        score_histogram(good, defect, report.threshold) if report.scores else "",
        "<h2>Kinds</h2>",
        _kind_rows(report.kinds),
    ]
    for group, (heading, about) in _GROUPS.items():
        body.append(f'<h2>{heading}</h2><p class="note">{about}</p>')
        body.append(_example_rows(_of(report, group), report.threshold, group))
    body.append(
        '<div class="legend note" style="margin-top:16px">Heat map colours, the same in every '
        f'picture: 0 <img alt="colour scale from 0 to 1" src="{_png(heat_legend(440, 24))}"> 1'
        "</div>"
    )
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>"
        for name, value in _flat(report.context)
    )
    body.append(f'<h2>How this was measured</h2><table class="context">{rows}</table>')
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(report.title)}</title><style>\n{css}</style></head><body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def example_sheet(report: Report) -> Picture:
    """The first example images of each list as one contact sheet; there must be one.

    Returns:
        (H,W,3) uint8 BGR.
    """
    chosen = {group: _of(report, group)[:_SHEET_ROWS] for group in _GROUPS}
    rows = [inspection_row(image, report.threshold) for group in chosen.values() for image in group]
    counts = ", ".join(f"{len(images)} {group}" for group, images in chosen.items())
    return contact_sheet(rows, COLUMNS, report.title, f"From the top: {counts}.")


def _of(report: Report, group: str) -> Sequence[InspectedImage]:
    return report.examples.get(group, ())


def report_data(report: Report) -> dict[str, Any]:
    """The content of report.json: plain values, without pictures."""
    data = {
        "schema_version": SCHEMA_VERSION,
        "title": report.title,
        "summary": report.summary,
        "undefined": report.undefined,
        "threshold": report.threshold,
        "threshold_origin": report.threshold_origin,
        "kinds": report.kinds,
        "context": report.context,
        "examples": {g: [image.name for image in images] for g, images in report.examples.items()},
        "scores": [score._asdict() for score in report.scores],
    }
    plain: dict[str, Any] = _plain(data)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.generic | np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def _figure(key: str, value: float | None, undefined: Mapping[str, str]) -> str:
    name, about = FIGURES[key]
    if value is None or not math.isfinite(value):
        reason = undefined.get(key, "needs both good and defective examples")
        shown, about = "–", f"not defined: {escape(reason)}"
    else:
        shown = f"{100 * value:.1f}<small> %</small>"
    return (
        f'<div class="figure"><div class="name">{name}</div><div class="value">{shown}</div>'
        f'<div class="about">{about}</div></div>'
    )


def _line_up(good: Sequence[float], defect: Sequence[float], threshold: float, origin: str) -> str:
    false_alarms = sum(score > threshold for score in good)
    missed = sum(score <= threshold for score in defect)
    alarms = f'<span class="{"bad" if false_alarms else ""}">{false_alarms} of {len(good)}</span>'
    misses = f'<span class="{"bad" if missed else ""}">{missed} of {len(defect)}</span>'
    return (
        f'<div class="line-up">At the threshold {threshold:.4g}'
        f"{f' ({escape(origin)})' if origin else ''}, {alarms} good parts are rejected "
        f"and {misses} defective parts pass.</div>"
    )


def _kind_rows(kinds: Sequence[Mapping[str, Any]]) -> str:
    head = ("Kind", "Images", "Image AUROC", "Mean score", "Detected", "Missed", "False alarms")
    rows = ["<tr>" + "".join(f"<th>{name}</th>" for name in head) + "</tr>"]
    for row in kinds:
        auroc = row["image_auroc"]
        cells = [
            escape(str(row["kind"]).replace("_", " ")),
            str(row["images"]),
            "–" if auroc is None else f"{100 * auroc:.1f} %",
            f"{row['mean_score']:.4f}",
            _count(row["detected_at_threshold"]),
            _count(row["missed"], is_error=True),
            _count(row["false_alarms"], is_error=True),
        ]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return f"<table>{''.join(rows)}</table>"


def _count(value: int | None, is_error: bool = False) -> str:
    if value is None:
        return ""
    return f'<span class="bad">{value}</span>' if is_error and value else str(value)


def _example_rows(images: Sequence[InspectedImage], threshold: float, group: str) -> str:
    if not images:
        return f"<p>{_NONE_IN_GROUP[group]}</p>"
    heads = "".join(f"<div>{column}</div>" for column in COLUMNS)
    return f'<div class="part head"><div></div>{heads}</div>' + "".join(
        _example(image, threshold) for image in images
    )


def _example(image: InspectedImage, threshold: float) -> str:
    style, word = ("reject", "REJECT") if image.is_rejected(threshold) else ("ok", "OK")
    outcome = image.outcome(threshold)
    pictures = "".join(
        f'<div><img alt="{column}" src="{_jpeg(view)}"></div>'
        for column, view in zip(COLUMNS, inspection_views(image), strict=True)
    )
    return (
        f'<div class="part"><div class="words"><span class="badge {style}">{word}</span>'
        f'<div class="name">{escape(image.name)}</div>'
        f'<div class="facts">score {image.score:.4f}<br>'
        f"truth: {escape(image.kind.replace('_', ' '))}<br>"
        f'<span class="{"" if outcome == "correct" else "bad"}">{outcome}</span></div></div>'
        f"{pictures}</div>"
    )


def _flat(context: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    pairs = []
    for key, value in context.items():
        name = f"{prefix}{str(key).replace('_', ' ')}"
        if isinstance(value, Mapping):
            pairs += _flat(value, f"{name} · ")
        else:
            plain = _plain(value)
            shown = ", ".join(map(str, plain)) if isinstance(plain, list) else str(plain)
            pairs.append((name, "–" if plain is None else shown))
    return pairs


def _jpeg(picture: Picture) -> str:
    scale = min(1.0, _THUMBNAIL_SIDE / max(picture.shape[:2]))
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return _data_uri(small.astype(np.uint8), ".jpg", "image/jpeg", [cv2.IMWRITE_JPEG_QUALITY, 85])


def _png(picture: Picture) -> str:
    return _data_uri(picture, ".png", "image/png", [])


def _data_uri(picture: Picture, extension: str, media_type: str, options: list[int]) -> str:
    _, encoded = cv2.imencode(extension, picture, options)
    return f"data:{media_type};base64,{base64.b64encode(encoded.tobytes()).decode('ascii')}"
