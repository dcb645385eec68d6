"""Thresholds for the scores that one engine gives, from the good parts that calibrated the bundle.

A lower precision moves scores a little, and with them the share of good parts that a threshold
rejects. `dad_edge.runtime.sidecar.thresholds_for` decides which thresholds hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dad_edge.bundle import Bundle, Thresholds
from dad_edge.data.layouts import list_items
from dad_edge.data.listing import Item
from dad_edge.deploy.calibrate import inspect_part, not_trained_on, peak_of, thresholds_from
from dad_edge.errors import DataError, UsageError
from dad_edge.files import sha256_of
from dad_edge.image.preprocess import read_frame
from dad_edge.progress import Progress, silent
from dad_edge.runtime.inspector import choose_to_judge
from dad_edge.runtime.opening import open_choice
from dad_edge.runtime.sidecar import OF_ENGINE, thresholds_for, write_engine_thresholds


def parts_of(
    bundle: Bundle, data: Path | None, normal: Path | None
) -> tuple[list[Item] | None, str | None]:
    """The good parts to derive thresholds from, or None and the reason.

    Args:
        bundle: a checked bundle.
        data: data set that the engine is judged on; its training split is tried.
        normal: data set that the bundle was calibrated on, if the user named it.

    Raises:
        UsageError: the bundle was calibrated on other images than those that the user named.
        DataError: no layout fits what the user named.
    """
    if normal is not None:
        items = not_trained_on(bundle, list_items(normal, "train"))
        if reason := why_not_derived(bundle, items):
            raise UsageError(
                f"--normal {normal} is not what the bundle was calibrated on: {reason}.",
                f"run 'dad-edge calibrate --data {normal}' first, or name that data set",
            )
        return items, None
    if data is None:
        return None, "they need the good parts that calibrated the bundle: --normal FOLDER"
    try:
        items = not_trained_on(bundle, list_items(data, "train"))
    except DataError as error:
        return None, error.message.rstrip(".")
    reason = why_not_derived(bundle, items)
    return (None, f"{reason}: name that data set with --normal") if reason else (items, None)


def why_not_derived(bundle: Bundle, items: Sequence[Item]) -> str | None:
    """Why an engine's thresholds cannot come from these images, or None if they can.

    Only the images that the bundle's own thresholds came from keep the meaning of its rate.

    Args:
        bundle: a checked bundle.
        items: images of good parts.
    """
    if bundle.thresholds is None or bundle.calibration is None:
        return "the bundle is not calibrated"
    if len(items) != bundle.thresholds.normal_images:
        return (
            f"the bundle was calibrated on {bundle.thresholds.normal_images} images of good parts, "
            f"these are {len(items)}"
        )
    paths = {item.name: item.path for item in items}
    for name, digest in bundle.calibration.images.items():
        if name not in paths or sha256_of(paths[name]) != digest:
            return f"the bundle was calibrated on another {name}"
    return None


def are_derived(bundle: Bundle, engine: str) -> bool:
    """Whether an engine has thresholds of its own that still hold."""
    return thresholds_for(bundle, engine)[1] == OF_ENGINE


def derive_thresholds(
    bundle: Bundle,
    engine: str,
    items: Sequence[Item],
    progress: Progress = silent,
) -> Thresholds:
    """Find the thresholds of an engine at the bundle's false-reject rate and store them with it.

    Args:
        bundle: a checked, calibrated bundle in a folder that may be written.
        engine: name of the engine.
        items: good parts for which `why_not_derived` returns None.
        progress: told of every image.

    Raises:
        DataError: an image cannot be read.
        ModelError: a score is not a finite number.
        StorageError: the thresholds cannot be written.
    """
    assert bundle.thresholds is not None
    scored = []
    with open_choice(choose_to_judge(bundle, engine)) as inspector:
        for item in items:
            frame = read_frame(item.path, bundle.model.bit_depth)
            inspection = inspect_part(inspector, item, frame)
            scored.append((inspection.score, peak_of(inspection)))
            progress(len(scored), len(items))
    scores, peaks = zip(*scored, strict=True)
    thresholds = thresholds_from(scores, peaks, bundle.thresholds.target_false_reject_rate)
    write_engine_thresholds(bundle, engine, thresholds)
    return thresholds
