"""Pictures of the accuracy gate: where an engine differs most, and all engines side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dad_edge.gate.images import Images, Sample
from dad_edge.image.pictures import Picture, SheetRow, contact_sheet, heat_overlay, mark_mask
from dad_edge.runtime.inspection import Inspector
from dad_edge.runtime.seams import Inspection

MAGNIFIED = 10
"""Differences are magnified by this factor, on the scale of the heat maps."""
MOST_ROWS = 8
ENGINES_PICTURE = "engines.png"


def worst_sheet(
    engine: str, pairs: Sequence[tuple[Sample, Inspection, Inspection]], threshold: float
) -> Picture:
    """The images on which an engine differs most.

    Args:
        engine: name of the engine.
        pairs: image, inspection in FP32, inspection by the engine.
        threshold: image threshold of the engine.
    """
    rows = []
    for sample, expected, actual in pairs:
        difference = np.abs(expected.score_map - actual.score_map)
        magnified = np.minimum(difference * (255 * MAGNIFIED), 255).astype(np.uint8)
        maps = (expected.heat, actual.heat, magnified)
        rows.append(
            SheetRow(
                tiles=(
                    mark_mask(sample.frame, sample.mask),
                    *(heat_overlay(sample.frame, heat) for heat in maps),
                ),
                title=sample.name,
                lines=(
                    f"score {actual.score:.4f}, FP32 {expected.score:.4f}",
                    f"threshold {threshold:.4f}",
                    f"largest difference {difference.max():.4f}",
                ),
                rejected=actual.verdict != "good",
            )
        )
    columns = ("Frame, true defect", "FP32", "Engine", f"Difference x{MAGNIFIED}")
    return contact_sheet(rows, columns, "Largest differences from FP32", engine)


def engines_sheet(images: Images, inspectors: dict[str, Inspector]) -> Picture:
    """A few images as every engine sees them, a column for each engine.

    Args:
        images: what to choose from; the first image of every kind and then more in turn.
        inspectors: heading of the column → what inspects.
    """
    rows = []
    for index in chosen_rows(images.kinds, MOST_ROWS):
        sample = images.load(index)
        inspections = [inspector.inspect(sample.frame) for inspector in inspectors.values()]
        tiles = [mark_mask(sample.frame, sample.mask)]
        tiles += [heat_overlay(sample.frame, inspection.heat) for inspection in inspections]
        lines = [
            f"{name} {inspection.score:.4f} {inspection.verdict}"
            for name, inspection in zip(inspectors, inspections, strict=True)
        ]
        rows.append(SheetRow(tiles=tiles, title=sample.name, lines=lines))
    title = "Score maps by precision, same noise"
    return contact_sheet(rows, ("Frame, true defect", *inspectors), title, images.source)


def chosen_rows(kinds: Sequence[str], most: int) -> list[int]:
    """Positions of at most `most` images, with every kind in turn."""
    left = {kind: [i for i, k in enumerate(kinds) if k == kind] for kind in dict.fromkeys(kinds)}
    chosen: list[int] = []
    while len(chosen) < most and any(left.values()):
        for positions in left.values():
            if positions and len(chosen) < most:
                chosen.append(positions.pop(0))
    return sorted(chosen)
