"""A tiny bundle and tiny data sets: real files, made without torch and in milliseconds."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dad_edge.bundle import (
    DENOISER,
    SEGMENTER,
    Bundle,
    Thresholds,
    open_bundle,
    write_manifest,
    write_thresholds,
)
from dad_edge.config import DenoiserConfig, ModelConfig, SegmenterConfig
from dad_edge.model.diffusion import alpha_bar_table

TINY = ModelConfig(
    size="nano",
    image_size=32,
    denoiser=DenoiserConfig(
        base_channels=8,
        channel_mults=(1, 2),
        res_blocks=1,
        attention_resolutions=(16,),
        norm_groups=4,
        heads=2,
    ),
    segmenter=SegmenterConfig(base_width=4),
    top_k=20,
)
"""Settings of the smallest model that exercises everything."""


def _conv_graph(
    path: Path, source: str, target: str, weights: np.ndarray, bias: float, squash: bool
) -> None:
    """A graph of one 1×1 convolution, and a sigmoid if `squash`; any number of rows."""
    outputs, inputs = weights.shape[:2]
    size = TINY.image_size
    nodes = [helper.make_node("Conv", [source, "weights", "bias"], ["linear"])]
    nodes.append(helper.make_node("Sigmoid" if squash else "Identity", ["linear"], [target]))
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info(source, TensorProto.FLOAT, ["N", inputs, size, size])],
        [helper.make_tensor_value_info(target, TensorProto.FLOAT, ["N", outputs, size, size])],
        [
            numpy_helper.from_array(weights.astype(np.float32), "weights"),
            numpy_helper.from_array(np.full(outputs, bias, np.float32), "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def make_tiny_bundle(folder: Path) -> Bundle:
    """A bundle whose score grows with the brightness of the frame: dark is good, bright is not."""
    folder.mkdir(parents=True)
    _conv_graph(folder / DENOISER, "x_t", "noise", np.zeros((3, 3, 1, 1)), 0.0, squash=False)
    brightness = np.concatenate([np.full((1, 3, 1, 1), 4.0), np.zeros((1, 3, 1, 1))], axis=1)
    _conv_graph(folder / SEGMENTER, "pair", "mask", brightness, -6.0, squash=True)
    table = alpha_bar_table(TINY.schedule)
    write_manifest(
        folder,
        model=TINY,
        class_name="tiny",
        alpha_bar=tuple(float(table[step]) for step in TINY.lambdas),
        made_with={"dad-edge": "test"},
    )
    write_thresholds(
        open_bundle(folder),
        Thresholds(
            image_threshold=0.5,
            pixel_threshold=0.5,
            target_false_reject_rate=0.1,
            smallest_supported_rate=0.1,
            normal_images=9,
            normal_score_quantiles={"0.5": 0.1},
        ),
    )
    return open_bundle(folder)


def save_discs(root: Path, count: int) -> Path:
    """A data set in MVTec layout: grey discs on a dark ground with camera noise, 48 pixels."""
    folder = root / "train" / "good"
    folder.mkdir(parents=True)
    y, x = np.mgrid[:48, :48]
    for index in range(count):
        rng = np.random.default_rng(index)
        disc = np.hypot(y - rng.uniform(20, 28), x - rng.uniform(20, 28)) < 15
        frame = np.where(disc[:, :, None], 170, 40) + rng.normal(0, 5, (48, 48, 3))
        cv2.imwrite(str(folder / f"{index:03}.png"), frame.clip(0, 255).astype(np.uint8))
    return root


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root
