"""Thresholds and activation ranges from images of good parts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dad_edge.bundle import (
    DENOISER,
    SEGMENTER,
    Bundle,
    Calibration,
    Thresholds,
    write_calibration,
    write_ignore,
    write_thresholds,
)
from dad_edge.data.listing import Item
from dad_edge.deploy.coverage import select, thumbnail
from dad_edge.deploy.ranges import M, MinMax, Observer
from dad_edge.errors import DataError, ModelError, UsageError
from dad_edge.files import sha256_of
from dad_edge.image.framing import ignored_at, plan_views, views
from dad_edge.image.preprocess import read_frame
from dad_edge.image.scene import Look, Scene, look_at, scene_around
from dad_edge.model.parts import parts_in
from dad_edge.progress import Progress, silent
from dad_edge.runtime.cpu.ops import NumpyOps
from dad_edge.runtime.inspection import Inspector
from dad_edge.runtime.opening import open_graphs
from dad_edge.runtime.seams import Inspection

RANGE_IMAGES = 64
"""Largest number of images that the activation ranges are taken from."""
QUANTILES = (0.0, 0.5, 0.9, 0.95, 0.99, 1.0)
METHOD = "min-max"
"""How the activation ranges are found, as `calibration.json` names it."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A target false-reject rate and what a number of images can support of it."""

    target: float
    images: int

    @property
    def smallest(self) -> float:
        """Smallest rate that so many images can support."""
        return 1 / (self.images + 1)

    @property
    def supported(self) -> bool:
        return self.target >= self.smallest

    @property
    def images_needed(self) -> int:
        """Images that the target needs."""
        return math.ceil(1 / self.target - 1e-9) - 1


def conformal_quantile(scores: Sequence[float], rate: float) -> float:
    """The score that a further good part exceeds with a probability of at most `rate`.

    The ⌈(n+1)(1-rate)⌉-th smallest of n scores (split conformal prediction). The guarantee holds
    for parts that are exchangeable with these. With fewer than 1/rate - 1 scores no finite
    threshold has it; the largest score is returned then.

    Args:
        scores: scores of good parts, at least one.
        rate: in (0,1).
    """
    rank = math.ceil((len(scores) + 1) * (1 - rate) - 1e-9)
    return sorted(scores)[min(rank, len(scores)) - 1]


def not_trained_on(bundle: Bundle, items: Sequence[Item]) -> list[Item]:
    """The images that did not teach the model, known by their content; all if none is left.

    Args:
        bundle: one that knows what taught it, or not.
        items: images of good parts.
    """
    parts = parts_in(bundle.path)
    if parts is None:
        return list(items)
    taught = set(parts.trained_on.values())
    return [item for item in items if sha256_of(item.path) not in taught] or list(items)


def calibrate(
    bundle: Bundle,
    items: Sequence[Item],
    *,
    false_reject_rate: float = 0.01,
    range_items: Sequence[Item] | None = None,
    progress: Progress = silent,
) -> tuple[Thresholds, Calibration]:
    """Find thresholds, the range of the scene and activation ranges; write them into the bundle.

    Args:
        bundle: a checked bundle in a folder that may be written; its ignore mask is written too.
        items: images of good parts; for honest thresholds, ones that were not trained on.
        false_reject_rate: share of good parts that may be rejected, in (0,1).
        range_items: images for the activation ranges; by default up to `RANGE_IMAGES` of `items`
            that differ most from each other (`dad_edge.deploy.coverage`).
        progress: told of every image.

    Raises:
        UsageError: the rate is not in (0,1).
        DataError: there is no image, or one cannot be read.
        ModelError: a score is not a finite number.
        StorageError: the bundle cannot be written.
    """
    if not 0 < false_reject_rate < 1:
        raise UsageError(
            f"the false-reject rate is {false_reject_rate}, not between 0 and 1.",
            "use '--false-reject-rate 0.01' for one part in a hundred",
        )
    if not items:
        raise DataError("no image to calibrate on.", "give a folder with images of good parts")
    counted = len(range_items) if range_items else min(len(items), RANGE_IMAGES)
    total, done = len(items) + counted, 0

    def tick() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    depth = bundle.model.bit_depth
    inspector = open_graphs(bundle)
    scores: list[float] = []
    peaks: list[float] = []
    looks: list[Look] = []
    pictures: list[NDArray[np.float32]] = []
    for item in items:
        frame = read_frame(item.path, depth)
        inspection = inspect_part(inspector, item, frame)
        scores.append(inspection.score)
        peaks.append(peak_of(inspection))
        ignored = ignored_at(bundle.ignore, inspection.score_map.shape)
        looks.append(look_at(inspection.image, ignored, bundle.model.value_range))
        pictures.append(thumbnail(frame))
        tick()
    thresholds = replace(
        thresholds_from(scores, peaks, false_reject_rate), scene=scene_around(looks)
    )
    chosen = range_items or [items[i] for i in select(np.stack(pictures), RANGE_IMAGES)]
    frames = (read_frame(item.path, depth) for item in chosen)
    calibration = Calibration(
        method=METHOD,
        ranges=activation_ranges(bundle, frames, tick=tick),
        images={item.name: sha256_of(item.path) for item in chosen},
    )
    if bundle.ignore is not None:
        write_ignore(bundle.path, bundle.ignore)
    write_thresholds(bundle, thresholds)
    write_calibration(bundle, calibration)
    return thresholds, calibration


def inspect_part(inspector: Inspector, item: Item, frame: NDArray[np.uint8]) -> Inspection:
    """What an inspector says of a good part.

    Raises:
        ModelError: the score is not a finite number.
    """
    inspection = inspector.inspect(frame)
    if not math.isfinite(inspection.score):
        raise ModelError(
            f"the score of {item.path} is not a finite number.",
            "train or export the model again; its weights are damaged",
        )
    return inspection


def peak_of(inspection: Inspection) -> float:
    """The highest pixel of a score map."""
    return float(inspection.score_map.max())


def thresholds_from(scores: Sequence[float], peaks: Sequence[float], rate: float) -> Thresholds:
    """Thresholds at a false-reject rate.

    Args:
        scores: of good parts.
        peaks: highest pixel of the score map of each.
        rate: share of good parts that may be rejected, in (0,1).
    """
    return Thresholds(
        image_threshold=conformal_quantile(scores, rate),
        pixel_threshold=conformal_quantile(peaks, rate),
        target_false_reject_rate=rate,
        smallest_supported_rate=Rate(rate, len(scores)).smallest,
        normal_images=len(scores),
        normal_score_quantiles={str(q): float(np.quantile(scores, q)) for q in QUANTILES},
    )


def in_words(thresholds: Thresholds, calibration: Calibration, left_out: int = 0) -> str:
    """The outcome for a person, with what the number of images can and cannot support.

    Args:
        thresholds: as found.
        calibration: as found.
        left_out: images that were not used, because the model was trained on them.
    """
    rate = Rate(thresholds.target_false_reject_rate, thresholds.normal_images)
    lines = [
        f"image threshold {thresholds.image_threshold:.4g}, "
        f"pixel threshold {thresholds.pixel_threshold:.4g}, from {rate.images} images; "
        f"smallest false-reject rate that so many support: {rate.smallest:.3g}",
        *([_scene_in_words(thresholds.scene)] if thresholds.scene else []),
        f"activation ranges from {len(calibration.images)} images",
        f"{left_out} images that the model was trained on were left out"
        if left_out
        else "note: images that the model was trained on give thresholds that are too low; "
        "use good parts it has not seen",
    ]
    if not rate.supported:
        lines.append(
            f"warning: a false-reject rate of {rate.target:g} needs {rate.images_needed} images; "
            "the largest score is the threshold"
        )
    return "\n".join(lines)


def _scene_in_words(scene: Scene) -> str:
    ranges = scene.brightness, scene.contrast
    brightness, contrast = (f"{low:.3g} to {high:.3g}" for low, high in ranges)
    return (
        f"frames with a brightness outside of {brightness} or a contrast outside of {contrast} "
        "are invalid"
    )


def read_manifest(path: Path, items: Sequence[Item]) -> list[Item]:
    """The images that a manifest of `calibration/select_images.py` names.

    Args:
        path: JSON, `{"images": {name: sha256}}`.
        items: images of the data set.

    Raises:
        DataError: the manifest cannot be read, or an image is missing or was changed.
    """
    try:
        named = dict(json.loads(path.read_text(encoding="utf-8"))["images"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{path} is not a manifest of calibration images: {error!r}.",
            "make one with 'python calibration/select_images.py --data DIR --out FILE'",
        ) from error
    known = {item.name: item for item in items}
    for name, digest in named.items():
        if name not in known or sha256_of(known[name].path) != digest:
            state = "was changed" if name in known else "is missing"
            raise DataError(
                f"image {name} of {path} {state} in the data set.", "select the images again"
            )
    return [known[name] for name in named]


def activation_ranges(
    bundle: Bundle,
    frames: Iterable[NDArray[np.uint8]],
    tick: Callable[[], None] = lambda: None,
) -> dict[str, dict[str, tuple[float, float]]]:
    """Ranges of the tensors that go into the convolutions of both networks.

    Args:
        bundle: a checked bundle.
        frames: (H,W,3) uint8 BGR each.
        tick: called after every frame.

    Returns:
        Network file → tensor → (minimum, maximum).
    """
    seen = observe(bundle, frames, MinMax, tick)
    return {
        graph: {name: (meter.low, meter.high) for name, meter in observer.meters.items()}
        for graph, observer in seen.items()
    }


def observe(
    bundle: Bundle,
    frames: Iterable[NDArray[np.uint8]],
    meter: Callable[[], M],
    tick: Callable[[], None] = lambda: None,
) -> dict[str, Observer[M]]:
    """Both networks, having watched the activations of these frames.

    The denoiser sees real x_t at the λ in use, the segmenter real images beside their x̂0.

    Args:
        bundle: a checked bundle.
        frames: (H,W,3) uint8 BGR each.
        meter: makes what watches one tensor, such as `MinMax`.
        tick: called after every frame.

    Returns:
        Network file → the network that watches its tensors.
    """
    ops = NumpyOps(bundle.model, bundle.manifest.alpha_bar)
    seen = {name: Observer(bundle.path / name, meter) for name in (DENOISER, SEGMENTER)}
    for frame in frames:
        image, x_t = ops.inject(views(frame, plan_views(frame.shape, bundle.model)), 0)
        noise = seen[DENOISER].run({"x_t": x_t})["noise"]
        seen[SEGMENTER].run({"pair": ops.restore(x_t, noise, image)})
        tick()
    return seen
