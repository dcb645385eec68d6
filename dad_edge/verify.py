"""The accuracy gate: an engine against the bundle's FP32 graphs, on the same noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dad_edge.bundle import ENGINES, REPORTS, Bundle, write_json
from dad_edge.config import Precision
from dad_edge.data.layouts import GOOD, list_items
from dad_edge.errors import DataError, ModelError
from dad_edge.metrics import image_auroc
from dad_edge.preprocess import read_frame
from dad_edge.runtime.engines import load_engine, why_not_here
from dad_edge.runtime.inspection import Inspector
from dad_edge.runtime.inspector import HostInspector, open_inspector
from dad_edge.runtime.ops_numpy import NumpyOps
from dad_edge.runtime.sidecar import Gate, LayerChoice, list_engines, read_sidecar, write_sidecar
from dad_edge.sensitivity import frames_for, pick_frames, rank_layers

if TYPE_CHECKING:
    from rich.table import Table

DEMO_PAIRS = 12
WORST = 5


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What an engine may differ by; None is reported, not judged."""

    mask: float | None
    """Largest difference of a pixel of the score map."""
    score: float | None
    """Largest difference of an image score."""
    auroc: float
    """Largest drop of the image AUROC, 0.01 being one point."""


TOLERANCES: dict[Precision, Tolerance] = {
    "fp32": Tolerance(1e-4, 1e-4, 0.0),
    "fp16": Tolerance(2e-2, 5e-3, 0.001),
    "int8": Tolerance(None, None, 0.005),
}


@dataclass(frozen=True, slots=True)
class Images:
    """Images to compare on."""

    source: str
    """Where they come from, in words."""
    count: int
    ranked: bool
    """Whether the bundle was made for this product, so that its AUROC on them means something."""
    read: Callable[[], Iterator[tuple[str, bool, NDArray[np.uint8]]]]
    """Name, whether it is defective, and frame (H,W,3) uint8 BGR of each."""


@dataclass(frozen=True, slots=True)
class Row:
    """One image under both."""

    name: str
    defective: bool
    reference: float
    score: float
    mask_error: float
    flipped: bool


def data_images(root: Path) -> Images:
    """The test images of a data set, or its normal images where it has none.

    Raises:
        DataError: no layout fits.
    """
    try:
        items = list_items(root, "test")
    except DataError:
        items = list_items(root, "train")

    def read() -> Iterator[tuple[str, bool, NDArray[np.uint8]]]:
        for item in items:
            yield item.name, item.kind != GOOD, read_frame(item.path)

    return Images(root.resolve().name, len(items), True, read)


def demo_images(bundle: Bundle) -> Images:
    """Drawn parts of the demo product, good ones and defective ones in turn."""
    from dad_edge.data.demo import KINDS, PRODUCT, draw, part_seed

    def read() -> Iterator[tuple[str, bool, NDArray[np.uint8]]]:
        for index in range(DEMO_PAIRS):
            seed = part_seed("test", 1, index)
            for kind in (GOOD, KINDS[index % len(KINDS)]):
                yield f"{kind}/{index}", kind != GOOD, draw(seed, kind).image

    ranked = bundle.manifest.class_name == PRODUCT
    return Images("the demo product", 2 * DEMO_PAIRS, ranked, read)


def images_of(bundle: Bundle, data: Path | None) -> Images:
    """Those of a data set, or parts of the demo product where none is named.

    Raises:
        DataError: no layout fits.
    """
    return data_images(data) if data else demo_images(bundle)


def verify(
    bundle: Bundle,
    engine: str,
    images: Images,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Judge an engine, write the report into `reports/` and the verdict into its sidecar.

    Args:
        bundle: a checked bundle in a folder that may be written.
        engine: name of the engine.
        images: what to compare on.
        progress: called with the images compared and the number of all.

    Returns:
        The report; `passed` and `failures` say what the gate decided.

    Raises:
        DeviceError, ModelError: the engine does not fit (see `load_engine`).
        DataError: an image cannot be read.
        StorageError: the report cannot be written.
    """
    sidecar = read_sidecar(bundle, engine)
    reference = open_inspector(bundle)
    candidate = HostInspector(
        NumpyOps(bundle.model, bundle.manifest.alpha_bar),
        *load_engine(bundle, engine, even_if_rejected=True),
        reference.threshold,
        ignore=bundle.ignore,
    )
    tolerance = tolerance_of(sidecar.precision, sidecar.layers.max_drop)
    report = compare(reference, candidate, images, sidecar.precision, tolerance, progress)
    if sidecar.precision == "int8" and not report["passed"]:
        report["costliest_layers"] = costliest_layers(bundle, images, sidecar.layers, progress)
    report = {
        "engine": engine,
        "backend": candidate.backend,
        "reference": reference.backend,
        "threshold": reference.threshold,
        **report,
    }
    write_json(bundle.path / REPORTS / f"verify-{engine}.json", report)
    passed = f"passed on {report['images']} images of {images.source}"
    reason = "; ".join(report["failures"]) or passed
    gate = Gate(passed=report["passed"], reason=reason)
    write_sidecar(bundle.path / ENGINES / engine, replace(sidecar, gate=gate))
    return report


def costliest_layers(
    bundle: Bundle,
    images: Images,
    chosen: LayerChoice,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[dict[str, Any]]:
    """The INT8 layers of an engine that cost most, worst first, each with its errors."""
    parts = ((defective, frame) for _, defective, frame in images.read())
    ranking = rank_layers(bundle, pick_frames(parts, frames_for(bundle)), progress)
    kept = {(network, name) for network, names in chosen.float_layers.items() for name in names}
    return [asdict(cost) for cost in ranking if (cost.network, cost.layer) not in kept][:WORST]


def tolerance_of(precision: Precision, max_drop: float | None = None) -> Tolerance:
    """The tolerance of a precision.

    Args:
        precision: of the engine.
        max_drop: largest drop of the image AUROC in points, in place of the usual one.
    """
    usual = TOLERANCES[precision]
    return usual if max_drop is None else replace(usual, auroc=max_drop / 100)


def compare(
    reference: Inspector,
    candidate: Inspector,
    images: Images,
    precision: Precision,
    tolerance: Tolerance,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Inspect every image under both and judge the differences; nothing is written."""
    rows = []
    for name, defective, frame in images.read():
        rows.append(_compare(reference, candidate, name, defective, frame))
        progress(len(rows), images.count)
    return _report(rows, images, precision, tolerance)


def runnable(bundle: Bundle) -> list[str]:
    """Engines of a bundle that can run on this machine.

    Raises:
        ModelError: there is none.
    """
    names = list_engines(bundle)
    found = [name for name in names if why_not_here(read_sidecar(bundle, name)) is None]
    if not found:
        raise ModelError(
            f"{bundle.path} has no engine that can run here; it has: {', '.join(names) or 'none'}.",
            "make one with 'dad-edge build --precision fp16 --runtime onnxruntime'",
        )
    return found


def gate_table(reports: Sequence[dict[str, Any]]) -> Table:
    """The reports as a table for the terminal."""
    from rich.table import Table

    table = Table(title="Accuracy gate: engine against the FP32 graphs, same noise")
    table.add_column("engine", no_wrap=True)
    for heading in ("mask error", "score error", "AUROC drop", "flips", "gate"):
        table.add_column(heading, justify="right")
    for report in reports:
        drop = report["auroc_drop"]
        table.add_row(
            report["engine"],
            f"{report['mask_error_max']:.2g}",
            f"{report['score_error_max']:.2g}",
            "not judged" if drop is None else f"{100 * drop:.2f} pt",
            str(len(report["verdict_flips"])),
            "passed" if report["passed"] else "FAILED",
        )
        table.caption = f"{report['images']} images of {report['source']}"
        if drop is None:
            table.caption += "; AUROC needs good and defective parts of this product: --data FOLDER"
    return table


def next_step(precision: Precision, engine: str) -> str:
    """What to try when an engine failed."""
    if precision == "int8":
        return (
            "use 'dad-edge build --precision int8 --max-drop 0.5 --data FOLDER', which keeps the "
            "costliest layers in float; or calibrate on more good parts, or use '--precision fp16'"
        )
    if precision == "fp16":
        return "use 'dad-edge build --precision fp32'"
    return f"remove {ENGINES}/{engine}, run 'dad-edge doctor' and build again"


def _compare(
    reference: Inspector,
    candidate: Inspector,
    name: str,
    defective: bool,
    frame: NDArray[np.uint8],
) -> Row:
    expected, actual = reference.inspect(frame), candidate.inspect(frame)
    error = float(np.abs(expected.score_map - actual.score_map).max())
    flipped = expected.verdict != actual.verdict
    return Row(name, defective, expected.score, actual.score, error, flipped)


def _report(
    rows: Sequence[Row], images: Images, precision: Precision, tolerance: Tolerance
) -> dict[str, Any]:
    """Figures and judgement; differences that are not finite are told by name, not by number."""
    broken = [r.name for r in rows if not np.isfinite([r.reference, r.score, r.mask_error]).all()]
    sound = [r for r in rows if r.name not in broken]
    mask_error = max((r.mask_error for r in sound), default=0.0)
    score_error = max((abs(r.score - r.reference) for r in sound), default=0.0)
    labels = [r.defective for r in sound]
    before = image_auroc([r.reference for r in sound], labels) if images.ranked else None
    after = image_auroc([r.score for r in sound], labels) if images.ranked else None
    drop = before - after if before is not None and after is not None else None

    failures = [f"scores are not finite: {', '.join(broken)}"] if broken else []
    for what, value, limit in (
        ("mask error", mask_error, tolerance.mask),
        ("score error", score_error, tolerance.score),
        ("AUROC drop", drop, tolerance.auroc),
    ):
        if value is not None and limit is not None and value > limit:
            failures.append(f"{what} {value:.2g} is above {limit:g}")
    worst = sorted(sound, key=lambda r: -r.mask_error)[:WORST]
    return {
        "precision": precision,
        "images": len(rows),
        "source": images.source,
        "mask_error_max": mask_error,
        "score_error_max": score_error,
        "auroc_reference": before,
        "auroc_engine": after,
        "auroc_drop": drop,
        "tolerance": {
            "mask": tolerance.mask,
            "score": tolerance.score,
            "auroc_drop": tolerance.auroc,
        },
        "verdict_flips": [
            {"image": r.name, "reference": r.reference, "engine": r.score}
            for r in sound
            if r.flipped
        ],
        "worst_images": [{"image": r.name, "mask_error": r.mask_error} for r in worst],
        "passed": not failures,
        "failures": failures,
    }
