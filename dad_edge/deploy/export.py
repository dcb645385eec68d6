"""Checkpoint → bundle: two ONNX graphs with the time steps baked in, checked against PyTorch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dad_edge.bundle import (
    DENOISER,
    MANIFEST,
    SEGMENTER,
    Bundle,
    open_bundle,
    write_ignore,
    write_manifest,
)
from dad_edge.config import FramingConfig, ModelConfig
from dad_edge.errors import DadEdgeError, ModelError, UsageError, printable, require
from dad_edge.files import new_folder
from dad_edge.image.framing import ignore_in
from dad_edge.machine.environment import package_versions
from dad_edge.model import noise
from dad_edge.model.checkpoint import load_detector
from dad_edge.model.denoiser import Denoiser
from dad_edge.model.detector import Detector
from dad_edge.model.diffusion import alpha_bar_table
from dad_edge.model.parts import parts_in, write_parts
from dad_edge.runtime.opening import open_graphs

OPSET = 20
"""TensorRT 10.3 parses no GroupNormalization of a later opset; 20 exports InstanceNormalization."""
TOLERANCE = 1e-4
"""Largest difference of masks and scores between ONNX Runtime and PyTorch, both FP32."""


class FixedStepDenoiser(nn.Module):
    """Denoiser at fixed time steps: (L·B,3,S,S), row l·B + b → noise of the same shape."""

    def __init__(self, denoiser: Denoiser, lambdas: tuple[int, ...]) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.levels = len(lambdas)
        self._names: dict[str, str] = {}
        with torch.no_grad():
            shifts = denoiser.shifts(torch.tensor(lambdas))
        for name, shift_LC11 in shifts.items():
            self._names[name] = f"shift_{name.replace('.', '_')}"
            self.register_buffer(self._names[name], shift_LC11)

    def forward(self, x_t: Tensor) -> Tensor:
        batch = x_t.shape[0] // self.levels
        shifts = {}
        for name, attribute in self._names.items():
            shift_LC11 = getattr(self, attribute)
            rows = shift_LC11[:, None].expand(-1, batch, -1, -1, -1)
            shifts[name] = rows.reshape(self.levels * batch, -1, 1, 1)
        return self.denoiser.predict(x_t, shifts)


class MaskSegmenter(nn.Module):
    """Segmenter that ends in the mask: (N,6,S,S) → (N,1,S,S) in [0,1]."""

    def __init__(self, segmenter: nn.Module) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, pair: Tensor) -> Tensor:
        return torch.sigmoid(self.segmenter(pair))


@dataclass(frozen=True, slots=True)
class Parity:
    """Largest differences between ONNX Runtime and PyTorch on the same noise."""

    mask: float
    score: float

    @property
    def passed(self) -> bool:
        return max(self.mask, self.score) <= TOLERANCE


def export(
    run: Path, out: Path, *, class_name: str | None = None, replace: bool = False
) -> tuple[Bundle, Parity]:
    """Write the bundle of a training run.

    Args:
        run: folder of the run.
        out: folder of the bundle; it appears only when it is complete and agrees with PyTorch.
        class_name: name of the product; the run's name if None.
        replace: whether an existing bundle there gives way.

    Raises:
        ModelError: the checkpoint is damaged or does not fit its recipe.
        DadEdgeError: ONNX Runtime and PyTorch disagree.
        StorageError: the bundle cannot be written.
    """
    require("onnxscript", "train", "export to ONNX")
    if replace and out.exists() and not (out / MANIFEST).is_file():
        raise UsageError(f"{out} is not a bundle and will not be replaced.", "choose another --out")
    detector, recipe = load_detector(run)
    model = recipe.model
    if model.method != "DiffusionAD":
        raise ModelError(
            f"{run} holds the ablation {model.method}, which has no bundle.",
            f"measure it with 'dad-edge evaluate --checkpoint {run}'",
        )
    assert isinstance(detector, Detector)
    table = alpha_bar_table(model.schedule)
    with new_folder(out, replace=replace) as folder:
        write_graphs(detector, folder)
        write_manifest(
            folder,
            model=model,
            class_name=printable(class_name or run.resolve().name),
            alpha_bar=tuple(float(table[step]) for step in model.lambdas),
            made_with=package_versions(),
        )
        if (ignore := ignore_in(run)) is not None:
            write_ignore(folder, ignore)
        if (parts := parts_in(run)) is not None:
            write_parts(folder, parts)
        parity = measure_parity(open_bundle(folder), detector)
        if not parity.passed:
            raise DadEdgeError(
                f"the exported graphs differ from PyTorch: mask by {parity.mask:.1e}, score by "
                f"{parity.score:.1e}; allowed is {TOLERANCE:.0e}.",
                "train on, or report the recipe and this message as a bug",
            )
    return open_bundle(out), parity


def write_graphs(detector: Detector, folder: Path) -> None:
    """Write `denoiser.onnx` and `segmenter.onnx` of a detector in evaluation mode."""
    model = detector.config
    levels, size = len(model.lambdas), model.image_size
    masks_per_frame = 1 if model.fusion == "norm_guided" else levels
    _write_graph(
        FixedStepDenoiser(detector.denoiser, model.lambdas).eval(),
        folder / DENOISER,
        ("x_t", "noise"),
        torch.zeros(2 * levels, 3, size, size),
        lambda batch: levels * batch,
    )
    _write_graph(
        MaskSegmenter(detector.segmenter).eval(),
        folder / SEGMENTER,
        ("pair", "mask"),
        torch.zeros(2 * masks_per_frame, 6, size, size),
        lambda batch: masks_per_frame * batch,
    )


def _write_graph(
    module: nn.Module,
    path: Path,
    names: tuple[str, str],
    example: Tensor,
    rows: Callable[[Any], Any],
) -> None:
    batch = torch.export.Dim("batch", min=1, max=64)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[names[0]],
            output_names=[names[1]],
            dynamic_shapes=({0: rows(batch)},),
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    _forget_origin(proto)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def _forget_origin(proto: Any) -> None:
    """Remove the exporter's notes: stack traces, which name files of the maker's machine."""
    graph = proto.graph
    values = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for part in (proto, graph, *graph.node, *values):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def measure_parity(bundle: Bundle, detector: Detector) -> Parity:
    """Compare the bundle on ONNX Runtime with the detector on the same frames and noise."""
    square = replace(bundle.manifest, model=replace(bundle.model, framing=FramingConfig()))
    inspector = open_graphs(Bundle(bundle.path, square, None, None))
    frames = probe_frames(bundle.model.image_size)
    inspections = inspector.inspect_batch(frames)
    image = torch.from_numpy(np.stack([inspection.image for inspection in inspections]))
    with torch.no_grad():
        masks, _ = detector(image, _noise(bundle.model, len(frames)))
    expected = masks[:, 0].numpy()
    top_k = bundle.model.top_k
    scores = np.sort(expected.reshape(len(frames), -1), axis=1)[:, -top_k:].mean(axis=1)
    return Parity(
        mask=max(
            float(np.abs(inspection.score_map - mask).max())
            for inspection, mask in zip(inspections, expected, strict=True)
        ),
        score=max(
            abs(inspection.score - float(score))
            for inspection, score in zip(inspections, scores, strict=True)
        ),
    )


def probe_frames(size: int) -> list[NDArray[np.uint8]]:
    """Frames that contain every grey value: noise, a ramp, black and white."""
    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    ramp = np.broadcast_to(np.linspace(0, 255, size).astype(np.uint8)[:, None], (size, size, 3))
    black, white = np.zeros_like(noise), np.full_like(noise, 255)
    return [noise, np.ascontiguousarray(ramp.swapaxes(0, 1)), black, white]


def _noise(model: ModelConfig, batch: int) -> Tensor:
    """(L,B,3,S,S): the runtime's noise, the same in every row."""
    shape = (3, model.image_size, model.image_size)
    levels = [
        noise.normal(shape, seed=0, lambda_index=index, frame_counter=0)
        for index in range(len(model.lambdas))
    ]
    return torch.stack(levels)[:, None].expand(-1, batch, -1, -1, -1)
