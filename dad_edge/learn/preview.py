"""A sheet of what training will see: foregrounds, synthetic anomalies and their masks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from dad_edge.data.dataset import TrainingSet
from dad_edge.errors import DataError, printable
from dad_edge.image.pictures import Picture, SheetRow, contact_sheet, mark_mask, write_picture

COLUMNS = ("Normal", "Foreground", "Synthetic", "Mask")
ROWS = 12
"""Synthetic images on a sheet."""


@dataclass(frozen=True, eq=False)
class Preview:
    """The sheet and its figures."""

    sheet: Picture
    """(H,W,3) uint8 BGR."""
    images: int
    """Normal images of the data set."""
    kind: str
    """"objects" or "textures"."""
    marked: float
    """Mean share of the pixels of the synthetic images on the sheet that are marked."""


def preview(images: TrainingSet, name: str, rows: int = ROWS) -> Preview:
    """Draw the first synthetic images that a training run on these images would see.

    Args:
        images: the training set.
        name: of the data set, for the heading.
        rows: synthetic images to show.
    """
    sheet_rows: list[SheetRow] = []
    shares: list[float] = []
    step = 0
    while len(sheet_rows) < rows:
        batch, chosen = images.batch(step), images.chosen(step)
        for row in range(len(chosen) // 2, len(chosen)):
            index, mask = int(chosen[row]), batch.masks[row]
            shares.append(float(mask.mean()))
            sheet_rows.append(
                SheetRow(
                    tiles=(
                        batch.originals[row],
                        _foreground(images, index, batch.originals[row]),
                        batch.frames[row],
                        _grey(mask),
                    ),
                    title=f"step {step + 1}, image {index + 1}",
                    lines=(f"{shares[-1]:.1%} of the pixels marked",),
                )
            )
        step += 1
    kind = "objects" if images.foregrounds else "textures"
    marked = float(np.mean(shares[:rows]))
    title = f"{name}: {len(images)} normal images, seen as {kind}"
    subtitle = f"synthetic anomalies of the first steps; {marked:.1%} of their pixels marked"
    sheet = contact_sheet(sheet_rows[:rows], COLUMNS, title, subtitle, scored=False)
    return Preview(sheet, len(images), kind, marked)


def write_preview(shown: Preview, file: Path) -> None:
    """Write the sheet as a picture.

    Raises:
        DataError: the name does not end like that of a picture.
        StorageError: the file cannot be written.
    """
    if not cv2.haveImageWriter(printable(file.name)):  # OpenCV crashes on bytes that are not UTF-8
        raise DataError(f"{file} does not name a picture.", "end --out in .png")
    write_picture(file, shown.sheet)


def _foreground(images: TrainingSet, index: int, frame: Picture) -> Picture:
    if images.foregrounds is None:
        return mark_mask(frame, np.full(frame.shape[:2], 255, np.uint8))
    return mark_mask(frame, images.foregrounds[index].astype(np.uint8))


def _grey(mask: np.ndarray) -> Picture:
    return np.repeat(mask[:, :, None], 3, axis=2).astype(np.uint8) * 255
