"""Pictures for people: heat overlays with a fixed colour scale, contact sheets with verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dad_edge.config import GOOD
from dad_edge.errors import StorageError
from dad_edge.files import write_whole
from dad_edge.scores import side_by_side

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]

INK: Colour = (42, 23, 15)
MUTED: Colour = (139, 116, 100)
LINE: Colour = (240, 232, 226)
PAPER: Colour = (255, 255, 255)
GREEN: Colour = (61, 128, 21)
RED: Colour = (28, 28, 185)
BLUE: Colour = (235, 99, 37)

COLUMNS = ("Frame", "Restored", "Heat map", "Marked defect")
"""Headings of the tiles that `inspection_row` makes."""

_MARGIN = 32
_GAP = 12
_TEXT_WIDTH = 250
_SUPERSAMPLING = 4


@dataclass(frozen=True, eq=False)
class InspectedImage:
    """One inspected part with its pictures; the pictures may differ in size, the view may not."""

    name: str
    """File name or other short name."""
    kind: str
    """"good" or the name of the true defect kind."""
    score: float
    """Image score in [0,1]."""
    frame: Picture
    """(H,W,3) uint8 BGR."""
    restored: Picture
    """(H,W,3) uint8 BGR, the flawless estimate x̂0 (Eq. 5)."""
    heat: Picture
    """(H,W) uint8, 255 for an anomaly score of 1."""
    mask: Picture | None
    """(H,W) uint8, above 0 on true defects; None where no truth is known."""

    def is_rejected(self, threshold: float) -> bool:
        """Whether the part is rejected, its score being above the threshold."""
        return self.score > threshold

    def outcome(self, threshold: float) -> str:
        """One of "correct", "missed defect" and "false alarm"."""
        if self.is_rejected(threshold) == (self.kind != GOOD):
            return "correct"
        return "false alarm" if self.kind == GOOD else "missed defect"


@dataclass(frozen=True, eq=False)
class SheetRow:
    """One row of a contact sheet."""

    tiles: Sequence[Picture]
    """uint8 BGR pictures of any size, one a column."""
    title: str
    lines: Sequence[str] = ()
    """Small text under the title."""
    rejected: bool | None = None
    """Draws the verdict, OK or REJECT, where it is not None."""


def write_picture(path: Path, picture: Picture) -> None:
    """Write a picture whole or not at all, in the format that the file's name ends in.

    Args:
        path: such as ``sheet.png``; its folder is made if missing.
        picture: (H,W,3) uint8 BGR, or (H,W) uint8.

    Raises:
        StorageError: it cannot be encoded, or the file cannot be written; an old one is untouched.
    """
    try:
        encoded, content = cv2.imencode(path.suffix, picture)
    except cv2.error as error:
        raise _not_encoded(path) from error
    if not encoded:
        raise _not_encoded(path)
    write_whole(path, content.tobytes())


def _not_encoded(path: Path) -> StorageError:
    return StorageError(
        f"{path} cannot be encoded as a picture.",
        "use a name that ends in .png, and install OpenCV with PNG support",
    )


def heat_overlay(frame: Picture, heat: Picture) -> Picture:
    """Lay a heat map over its frame, by a fixed scale that never looks at the picture.

    Colour and opacity depend on the heat alone: 0 leaves the frame as it is, and the same heat
    has the same colour in every picture.

    Args:
        frame: (H,W,3) uint8 BGR.
        heat: uint8, 255 for an anomaly score of 1; resized to the frame where sizes differ.

    Returns:
        (H,W,3) uint8 BGR.
    """
    height, width = frame.shape[:2]
    if heat.shape != (height, width):
        heat = cv2.resize(heat, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8)
    colour = cv2.applyColorMap(heat, cv2.COLORMAP_TURBO).astype(np.float32)
    opacity = np.minimum(heat.astype(np.float32) * (1.5 / 255), 0.75)[..., None]
    blended: NDArray[np.float32] = np.rint(frame * (1 - opacity) + colour * opacity)
    return blended.astype(np.uint8)


def heat_legend(width: int, height: int) -> Picture:
    """The colour scale of `heat_overlay` over neutral grey: (height,width,3), scores 0 to 1."""
    ramp = np.linspace(0, 255, width).round().astype(np.uint8)
    grey = np.full((height, width, 3), 200, np.uint8)
    return heat_overlay(grey, np.repeat(ramp[None], height, axis=0))


def mark_mask(frame: Picture, mask: Picture | None) -> Picture:
    """Draw the true defect on its frame: tinted and outlined in blue.

    Args:
        frame: (H,W,3) uint8 BGR.
        mask: uint8, above 0 on defects, resized to the frame where sizes differ; None for none.

    Returns:
        (H,W,3) uint8 BGR, a new picture.
    """
    marked = frame.copy()
    if mask is None:
        return marked
    height, width = frame.shape[:2]
    defect = (mask > 0).astype(np.uint8)
    if defect.shape != (height, width):
        defect = cv2.resize(defect, (width, height), interpolation=cv2.INTER_NEAREST).astype(
            np.uint8
        )
    inside = defect > 0
    marked[inside] = (marked[inside] * 0.6 + np.array(BLUE) * 0.4).astype(np.uint8)
    outlines, _ = cv2.findContours(defect, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(marked, outlines, -1, BLUE, max(1, round(max(height, width) / 256)))
    return marked


def inspection_views(image: InspectedImage) -> tuple[Picture, ...]:
    """The four views of a part named in `COLUMNS`, all of the frame's size."""
    height, width = image.frame.shape[:2]
    restored = cv2.resize(image.restored, (width, height), interpolation=cv2.INTER_AREA)
    return (
        image.frame,
        restored.astype(np.uint8),
        heat_overlay(image.frame, image.heat),
        mark_mask(image.frame, image.mask),
    )


def inspection_row(image: InspectedImage, threshold: float) -> SheetRow:
    """The contact-sheet row of one inspected part, for the headings in `COLUMNS`."""
    score, rejected_above = side_by_side(image.score, threshold, 4)
    return SheetRow(
        tiles=inspection_views(image),
        title=image.name,
        lines=(
            f"score {score}  (threshold {rejected_above})",
            f"truth: {image.kind.replace('_', ' ')}",
            image.outcome(threshold),
        ),
        rejected=image.is_rejected(threshold),
    )


def contact_sheet(
    rows: Sequence[SheetRow],
    columns: Sequence[str],
    title: str,
    subtitle: str = "",
    tile: int = 224,
    scored: bool = True,
) -> Picture:
    """Lay out rows of pictures with headings, verdicts and the colour scale.

    Args:
        rows: at least one; each with one tile a column.
        columns: headings of the tiles.
        title: heading of the sheet; characters outside ASCII are escaped (a limit of OpenCV).
        subtitle: one line under the title.
        tile: longest side of a tile, pixels.
        scored: whether the rows have verdicts and heat maps; draws the colour scale.

    Returns:
        (H,W,3) uint8 BGR on white.

    Raises:
        ValueError: no rows, or a row whose tiles do not match the columns.
    """
    if not rows or any(len(row.tiles) != len(columns) for row in rows):
        raise ValueError(f"every row needs {len(columns)} tiles, and there must be a row")
    fitted = [[_fit(picture, tile) for picture in row.tiles] for row in rows]
    tile_height = max(max(picture.shape[0] for row in fitted for picture in row), 120)
    tile_width = max(picture.shape[1] for row in fitted for picture in row)
    top = 128
    text_x = _MARGIN + len(columns) * (tile_width + _GAP) + _GAP
    width = text_x + _TEXT_WIDTH + _MARGIN
    height = top + len(rows) * (tile_height + _GAP) + _MARGIN - _GAP
    sheet = np.full((height, width, 3), 255, np.uint8)

    draw_text(sheet, title, (_MARGIN, 48), 22, INK, bold=True, room=text_x - _MARGIN)
    draw_text(sheet, subtitle, (_MARGIN, 76), 13, MUTED, room=text_x - _MARGIN)
    if scored:
        _draw_legend(sheet, text_x)
        draw_text(sheet, "Verdict", (text_x, top - 10), 13, INK)
    for index, column in enumerate(columns):
        x = _MARGIN + index * (tile_width + _GAP)
        draw_text(sheet, column, (x, top - 10), 13, INK, room=tile_width)
    for number, (row, pictures) in enumerate(zip(rows, fitted, strict=True)):
        y = top + number * (tile_height + _GAP)
        for index, picture in enumerate(pictures):
            _place(sheet, picture, _MARGIN + index * (tile_width + _GAP), y, tile_width)
        _draw_verdict(sheet, row, text_x, y)
    return sheet


def draw_text(
    picture: Picture,
    text: str,
    origin: tuple[int, int],
    size: int,
    colour: Colour,
    *,
    bold: bool = False,
    room: int = _TEXT_WIDTH,
) -> int:
    """Write one smooth line of ASCII text into a picture, shortened to fit.

    Args:
        picture: (H,W,3) uint8 BGR, changed in place.
        text: characters outside ASCII become escapes such as ``\\xfc``.
        origin: (x, y) of the left end of the base line, pixels.
        size: height of a capital letter is about 0.7 of this, pixels.
        colour: BGR.
        bold: heavier strokes.
        room: most pixels the text may take; longer text loses its middle.

    Returns:
        The width of the written text, pixels.
    """
    font = cv2.FONT_HERSHEY_SIMPLEX
    scale = size / 30 * _SUPERSAMPLING
    thickness = round(size * (0.14 if bold else 0.085) * _SUPERSAMPLING)
    text = text.encode("ascii", "backslashreplace").decode()

    def measure(line: str) -> int:
        return int(cv2.getTextSize(line, font, scale, thickness)[0][0])

    kept = len(text)
    line = text
    while measure(line) > room * _SUPERSAMPLING and kept > 2:
        kept -= 1
        line = f"{text[: (kept + 1) // 2]}...{text[len(text) - kept // 2 :]}"
    text_width = measure(line) // _SUPERSAMPLING + 2
    height, below = 2 * size, size // 2
    ink = np.zeros((height * _SUPERSAMPLING, text_width * _SUPERSAMPLING), np.uint8)
    base = (0, (height - below) * _SUPERSAMPLING)
    cv2.putText(ink, line, base, font, scale, 255, thickness, cv2.LINE_AA)
    cover = cv2.resize(ink, (text_width, height), interpolation=cv2.INTER_AREA) / 255.0
    x, y = origin[0], origin[1] - (height - below)
    top, left = max(0, -y), max(0, -x)
    area = picture[y + top : y + height, x + left : x + text_width]
    cover = cover[top : top + area.shape[0], left : left + area.shape[1], None]
    area[:] = np.rint(area * (1 - cover) + np.array(colour) * cover).astype(np.uint8)
    return text_width


def draw_badge(picture: Picture, rejected: bool, origin: tuple[int, int]) -> None:
    """Draw the verdict, a red REJECT or a green OK, with its top left corner at ``origin``."""
    word, colour, width = ("REJECT", RED, 92) if rejected else ("OK", GREEN, 52)
    x, y = origin
    for left in (x + 13, x + width - 13):
        cv2.circle(picture, (left, y + 13), 13, colour, -1, cv2.LINE_AA)
    cv2.rectangle(picture, (x + 13, y), (x + width - 13, y + 26), colour, -1)
    draw_text(picture, word, (x + 13, y + 19), 16, PAPER, bold=True)


def _draw_verdict(sheet: Picture, row: SheetRow, x: int, y: int) -> None:
    if row.rejected is not None:
        draw_badge(sheet, row.rejected, (x, y))
        y += 38
    draw_text(sheet, row.title, (x, y + 16), 14, INK, bold=True)
    for number, line in enumerate(row.lines):
        colour = RED if line in ("missed defect", "false alarm") else MUTED
        draw_text(sheet, line, (x, y + 38 + 20 * number), 12, colour)


def _draw_legend(sheet: Picture, x: int) -> None:
    width = _TEXT_WIDTH - 40
    sheet[38:50, x : x + width] = heat_legend(width, 12)
    draw_text(sheet, "Anomaly score, fixed scale", (x, 28), 12, MUTED)
    for text, offset in (("0", 0), ("0.5", width // 2 - 9), ("1", width - 7)):
        draw_text(sheet, text, (x + offset, 66), 12, MUTED)


def _fit(picture: Picture, side: int) -> Picture:
    scale = side / max(picture.shape[:2])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(picture, size, interpolation=method).astype(np.uint8)


def _place(sheet: Picture, picture: Picture, x: int, y: int, width: int) -> None:
    x += (width - picture.shape[1]) // 2
    sheet[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    corner = (x + picture.shape[1] - 1, y + picture.shape[0] - 1)
    cv2.rectangle(sheet, (x, y), corner, LINE, 1)
