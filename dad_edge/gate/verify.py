"""The accuracy gate: an engine against FP32, on the same images and the same noise."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dad_edge.bundle import ENGINES, REPORTS, Bundle
from dad_edge.config import Precision, read_recipe
from dad_edge.data.truth import truth_on
from dad_edge.errors import ModelError, require
from dad_edge.files import write_json
from dad_edge.gate.images import FEWEST, Images
from dad_edge.gate.judgement import (
    WORST,
    Comparison,
    Judgement,
    Tolerance,
    judge,
    mask_error,
    tolerance_of,
)
from dad_edge.gate.layer_errors import LayerError, layer_errors
from dad_edge.gate.pictures import worst_sheet
from dad_edge.gate.report import GateReport, report_json
from dad_edge.gate.sensitivity import LayerCost, frames_for, pick_frames, rank_layers
from dad_edge.image.pictures import write_picture
from dad_edge.made import remember
from dad_edge.progress import Progress, silent
from dad_edge.runtime.engines import EngineChoice, why_not_here
from dad_edge.runtime.inspection import Inspector
from dad_edge.runtime.inspector import choose_to_judge
from dad_edge.runtime.opening import open_choice, open_graphs
from dad_edge.runtime.proof import FRAMES, Proof, make_proof, write_proof
from dad_edge.runtime.sidecar import (
    GATE_REPORT,
    SIDECAR,
    Gate,
    Sidecar,
    judge_command,
    list_engines,
    read_sidecar,
    write_sidecar,
)

PICTURE = "worst.png"


def verify(
    bundle: Bundle,
    engine: str,
    images: Images,
    progress: Progress = silent,
    *,
    reference: Inspector | None = None,
) -> GateReport:
    """Judge an engine; report and pictures go into `reports/`, the verdict into its sidecar.

    Args:
        bundle: a checked bundle in a folder that may be written.
        engine: name of the engine.
        images: what to compare on.
        progress: called with the images compared and the number of all.
        reference: the inspector that counts as right, such as the run on PyTorch; the bundle's
            FP32 graphs if None.

    Returns:
        The report; the outcome of its judgement says what the gate decided.

    Raises:
        DeviceError, ModelError: the engine does not fit (see `choose_to_judge`).
        DataError: an image cannot be read.
        StorageError: the report cannot be written.
    """
    choice = choose_to_judge(bundle, engine)
    sidecar = choice.sidecar
    assert sidecar is not None, "an engine was named"
    reference = reference or open_graphs(bundle)
    with open_choice(choice) as candidate:
        comparison = observe(reference, candidate, images, progress)
    proof = _proof_of(choice, sidecar, images) if all(r.known for r in comparison.rows) else None
    tolerance = tolerance_of(sidecar.precision, sidecar.layers.max_drop)
    judgement = judge(comparison, images, sidecar.precision, tolerance)
    report = GateReport(
        engine=engine,
        backend=candidate.backend,
        reference=reference.backend,
        threshold_reference=reference.threshold,
        threshold_engine=candidate.threshold,
        threshold_origin=choice.thresholds_origin,
        judgement=judgement,
    )
    if judgement.outcome == "failed":
        layers = costliest_layers(bundle, images, sidecar, comparison, progress)
        step = next_step(sidecar.precision, engine)
        report = replace(report, costliest_layers=layers, next_step=step)
    elif judgement.outcome == "not judged":
        report = replace(report, next_step=how_to_judge(judgement, engine))
    if read_sidecar(bundle, engine) != sidecar:
        raise ModelError(
            f"engine '{engine}' was built again while it was judged.",
            f"judge the new one with '{judge_command(engine)}'",
        )
    folder = bundle.path / REPORTS / engine
    drawable = [pair for pair in comparison.worst if np.isfinite(mask_error(*pair[1:]))]
    if drawable:
        write_picture(folder / PICTURE, worst_sheet(engine, drawable, candidate.threshold))
    write_json(folder / GATE_REPORT, report_json(report))
    folder = bundle.path / ENGINES / engine
    digest = write_proof(folder, proof) if proof else None
    write_sidecar(folder, replace(sidecar, gate=_gate_of(judgement), proof_sha256=digest))
    remember([folder / SIDECAR])
    return report


def _proof_of(choice: EngineChoice, sidecar: Sidecar, images: Images) -> Proof:
    """The proof of an engine that runs here, without the ignore mask, which may be edited."""
    bundle = replace(choice.bundle, ignore=None)
    with open_choice(replace(choice, bundle=bundle)) as engine:
        frames, graphs = frames_of_proof(images), open_graphs(bundle)
        return make_proof(frames, graphs, engine, sidecar.precision, bundle.model)


def _gate_of(judgement: Judgement) -> Gate:
    """What goes into the sidecar."""
    if judgement.outcome == "failed":
        return Gate(passed=False, reason="; ".join(judgement.failures))
    if judgement.outcome == "not judged":
        return Gate(passed=None, reason="; ".join(judgement.undefined))
    return Gate(passed=True, reason=f"passed on {judgement.images} images of {judgement.source}")


def unseen_proof(bundle: Bundle, precision: Precision, images: Images) -> Proof | None:
    """A proof for an engine that has not run yet, such as one for another machine.

    None where there is no image, or no number that is right, to prove anything with; the gate says
    what is wrong then.

    Args:
        bundle: a checked bundle.
        precision: of the engine.
        images: frames of the product.

    Raises:
        DataError: an image cannot be read.
    """
    frames = frames_of_proof(images)
    if frames:
        with suppress(ModelError):
            graphs = open_graphs(replace(bundle, ignore=None))
            return make_proof(frames, graphs, None, precision, bundle.model)
    return None


def frames_of_proof(images: Images) -> list[NDArray[np.uint8]]:
    """Frames that an engine can prove itself on later: a good part first, then defects."""
    good: list[NDArray[np.uint8]] = []
    defective: list[NDArray[np.uint8]] = []
    for sample in images.read():
        (defective if sample.defective else good).append(sample.frame)
        if good and len(defective) >= FRAMES - 1:
            break
    return [*good[:1], *defective, *good[1:]][:FRAMES]


def open_reference(bundle: Bundle, checkpoint: Path | None) -> Inspector:
    """The inspector that engines are compared with, at the bundle's own threshold.

    Args:
        bundle: a checked bundle.
        checkpoint: training run that it was exported from, to compare with PyTorch; the bundle's
            FP32 graphs on ONNX Runtime if None.

    Raises:
        MissingDependency: PyTorch is not installed.
        ModelError: the run does not fit its recipe, or the bundle was made with other settings.
    """
    graphs = open_graphs(bundle)
    if checkpoint is None:
        return graphs
    require("torch", "train", "compare with a checkpoint")
    from dad_edge.model.checkpoint import RECIPE
    from dad_edge.runtime.cpu.engine_torch import open_torch_inspector

    if read_recipe(checkpoint / RECIPE).model != bundle.model:
        raise ModelError(
            f"{checkpoint} has other settings than {bundle.path}.",
            "name the run that the bundle was exported from",
        )
    torch = open_torch_inspector(checkpoint, threshold=graphs.threshold)
    torch.ignore = bundle.ignore
    return torch


def compare(
    reference: Inspector,
    candidate: Inspector,
    images: Images,
    precision: Precision,
    tolerance: Tolerance,
    progress: Progress = silent,
) -> Judgement:
    """Inspect every image with both inspectors and judge the differences; nothing is written."""
    comparison = observe(reference, candidate, images, progress)
    return judge(comparison, images, precision, tolerance)


def observe(
    reference: Inspector,
    candidate: Inspector,
    images: Images,
    progress: Progress = silent,
) -> Comparison:
    """Inspect every image with both inspectors."""
    comparison = Comparison()
    for sample in images.read():
        expected, actual = reference.inspect(sample.frame), candidate.inspect(sample.frame)
        row = comparison.add(sample, expected, actual)
        marked = sample.mask is not None or not sample.defective
        if marked and row.sound:
            truth = truth_on(expected.score_map, sample.mask, candidate.ignore)
            comparison.reference_pixels.update(expected.score_map, truth)
            comparison.engine_pixels.update(actual.score_map, truth)
            if truth.any():
                comparison.marked.add(row.digest)
        progress(len(comparison.rows), len(images))
    return comparison


def costliest_layers(
    bundle: Bundle,
    images: Images,
    sidecar: Sidecar,
    comparison: Comparison,
    progress: Progress = silent,
) -> tuple[LayerCost | LayerError, ...]:
    """Layers that the precision of an engine costs most in, worst first, each with its errors.

    An INT8 layer costs what its quantization alone does to the scores. In FP16 those layers come
    first in which most error arises, on the image that differs most. FP32 has none: its graphs are
    the reference's own.
    """
    if sidecar.precision == "int8":
        parts = ((sample.defective, sample.frame) for sample in images.read())
        ranking = rank_layers(bundle, pick_frames(parts, frames_for(bundle)), progress)
        chosen = sidecar.layers.float_layers
        in_float = {(network, name) for network, names in chosen.items() for name in names}
        return tuple(c for c in ranking if (c.network, c.layer) not in in_float)[:WORST]
    if sidecar.precision == "fp16":
        return tuple(layer_errors(bundle, comparison.worst[0][0].frame)[:WORST])
    return ()


def runnable(bundle: Bundle) -> list[str]:
    """Engines of a bundle that can run on this machine.

    Raises:
        ModelError: there is none.
    """
    names = list_engines(bundle)
    runnable_names = [name for name in names if why_not_here(read_sidecar(bundle, name)) is None]
    if not runnable_names:
        raise ModelError(
            f"{bundle.path} has no engine that can run here; it has: {', '.join(names) or 'none'}.",
            "make one with 'dad-edge build --precision fp16 --runtime onnxruntime'",
        )
    return runnable_names


def next_step(precision: Precision, engine: str) -> str:
    """What to try when an engine failed."""
    if precision == "int8":
        return (
            "use 'dad-edge build --precision int8 --max-drop 0.5 --data FOLDER', which keeps the "
            "costliest layers in float; or calibrate on more good parts, or use "
            f"'--precision fp16'; 'dad-edge verify --layers --engine {engine}' shows where it errs"
        )
    if precision == "fp16":
        return (
            "use 'dad-edge build --precision fp32'; "
            f"'dad-edge verify --layers --engine {engine}' shows where it errs"
        )
    return f"remove {ENGINES}/{engine}, run 'dad-edge doctor' and build again"


def how_to_judge(judgement: Judgement, engine: str) -> str:
    """What to do where nothing could be judged."""
    command = judge_command(engine)
    if judgement.blind:
        return (
            "see with 'dad-edge evaluate --data FOLDER' what the model itself can tell apart; "
            f"train it longer or on more images, or run '{command}' on images that it can judge"
        )
    return (
        f"run '{command}' with {FEWEST} or more good parts of this product; defects are drawn on "
        "them where the folder has too few"
    )
