"""A bundle of two small networks with every kind of layer that the precisions treat differently."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import numpy_helper
from tiny import TINY, make_tiny_bundle

from dad_edge.bundle import DENOISER, SEGMENTER, Bundle, open_bundle, write_manifest
from dad_edge.image.preprocess import read_frame
from dad_edge.runtime.opening import open_graphs

DENOISER_TEXT = """
<ir_version: 10, opset_import: ["" : 20]>
denoiser (float[N,3,32,32] x_t) => (float[N,3,32,32] noise) {
    stem = Conv<pads=[1,1,1,1]>(x_t, w_stem, b_stem)
    grouped = Reshape(stem, to_groups)
    normal = InstanceNormalization(grouped, ones, zeros)
    flat = Reshape(normal, to_map)
    scaled = Mul(flat, gamma)
    shifted = Add(scaled, beta)
    gate = Sigmoid(shifted)
    active = Mul(shifted, gate)
    down = AveragePool<kernel_shape=[2,2], strides=[2,2]>(active)
    middle = Conv<pads=[1,1,1,1]>(down, w_middle, b_middle)
    up = Resize<mode="nearest">(middle, , doubling)
    both = Concat<axis=1>(up, active)
    merged = Conv<pads=[1,1,1,1]>(both, w_merge, b_merge)
    noise = Conv<pads=[1,1,1,1]>(merged, w_head, b_head)
}
"""
SEGMENTER_TEXT = """
<ir_version: 10, opset_import: ["" : 20]>
segmenter (float[N,6,32,32] pair) => (float[N,1,32,32] mask) {
    first = Conv<pads=[1,1,1,1]>(pair, w_stem, b_stem)
    one = Relu(first)
    second = Conv<pads=[1,1,1,1]>(one, w_middle, b_middle)
    two = Relu(second)
    logits = Conv<pads=[1,1,1,1]>(two, w_head, b_head)
    mask = Sigmoid(logits)
}
"""

SENSITIVE_TEXT = """
<ir_version: 10, opset_import: ["" : 20]>
segmenter (float[N,6,32,32] pair) => (float[N,1,32,32] mask) {
    first = Conv<pads=[1,1,1,1]>(pair, w_stem, b_stem)
    one = Relu(first)
    second = Conv<pads=[1,1,1,1]>(one, w_calm, b_calm)
    two = Relu(second)
    third = Conv<pads=[1,1,1,1]>(two, w_sensitive, b_sensitive)
    three = Relu(third)
    fourth = Conv<pads=[1,1,1,1]>(three, w_quiet, b_quiet)
    four = Relu(fourth)
    logits = Conv<pads=[1,1,1,1]>(four, w_head, b_head)
    mask = Sigmoid(logits)
}
"""


def small_model(text: str, channels: dict[str, tuple[int, int]]) -> onnx.ModelProto:
    """A graph with random weights: layer → (inputs, outputs) of its 3×3 convolution."""
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(text)
    values = {}
    for name, (inputs, outputs) in channels.items():
        spread = 1.5 / np.sqrt(9 * inputs)
        values[f"w_{name}"] = rng.normal(0, spread, (outputs, inputs, 3, 3)).astype(np.float32)
        values[f"b_{name}"] = rng.normal(0, 0.1, outputs).astype(np.float32)
    if "InstanceNormalization" in text:
        values |= {
            "ones": np.ones(4, np.float32),
            "zeros": np.zeros(4, np.float32),
            "gamma": rng.normal(1, 0.2, (8, 1, 1)).astype(np.float32),
            "beta": rng.normal(0, 0.2, (8, 1, 1)).astype(np.float32),
            "doubling": np.array([1, 1, 2, 2], np.float32),
            "to_groups": np.array([0, 4, -1], np.int64),
            "to_map": np.array([0, 8, 32, 32], np.int64),
        }
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in values.items())
    onnx.checker.check_model(model)
    return model


def small_denoiser() -> onnx.ModelProto:
    """x_t → noise, with GroupNorm, SiLU, resizing and a skip connection."""
    layers = {"stem": (3, 8), "middle": (8, 8), "merge": (16, 8), "head": (8, 3)}
    return small_model(DENOISER_TEXT, layers)


def small_segmenter() -> onnx.ModelProto:
    """pair → mask."""
    return small_model(SEGMENTER_TEXT, {"stem": (6, 8), "middle": (8, 8), "head": (8, 1)})


def sensitive_segmenter() -> onnx.ModelProto:
    """pair → mask, with one layer that INT8 ruins: `w_sensitive`.

    One channel that it does not use is 5000 times as large as the others, so that a range that
    covers it leaves no levels for them. The mask follows the brightness of the image.
    """
    sizes = {"stem": (6, 8), "calm": (8, 8), "sensitive": (8, 8), "quiet": (8, 8), "head": (8, 1)}
    model = small_model(SENSITIVE_TEXT, sizes)
    centre = np.zeros((8, 8, 3, 3), np.float32)
    centre[range(8), range(8), 1, 1] = 1
    stem = np.zeros((8, 6, 3, 3), np.float32)
    stem[:, :3, 1, 1] = np.linspace(0.2, 0.4, 8)[:, None]
    unused = centre.copy()
    unused[0] = 0
    head = np.zeros((1, 8, 3, 3), np.float32)
    head[0, 1:, 1, 1] = 1
    values = {
        "w_stem": stem,
        "w_calm": centre,
        "w_sensitive": unused,
        "w_quiet": centre,
        "w_head": head,
        "b_stem": np.zeros(8, np.float32),
        "b_calm": np.array([5000] + 7 * [0], np.float32),
        "b_sensitive": np.zeros(8, np.float32),
        "b_quiet": np.zeros(8, np.float32),
        "b_head": np.array([-3], np.float32),
    }
    for weight in model.graph.initializer:
        weight.CopyFrom(numpy_helper.from_array(values[weight.name], weight.name))
    return model


def make_network_bundle(folder: Path, segmenter: onnx.ModelProto | None = None) -> Bundle:
    """The tiny bundle with these networks in place of its own."""
    tiny = make_tiny_bundle(folder)
    onnx.save(small_denoiser(), folder / DENOISER)
    onnx.save(segmenter or small_segmenter(), folder / SEGMENTER)
    write_manifest(
        folder,
        model=TINY,
        class_name="small",
        alpha_bar=tiny.manifest.alpha_bar,
        made_with={"dad-edge": "test"},
    )
    return open_bundle(folder)


def write_images(folder: Path, count: int, low: int = 0, high: int = 256) -> Path:
    """Pictures of smooth random colours."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(low)
    for index in range(count):
        coarse = rng.integers(low, high, (6, 6, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{index:03}.png"), cv2.resize(coarse, (48, 48)))
    return folder


def write_marked_data(bundle: Bundle, root: Path, count: int = 10) -> Path:
    """A data set that an engine of this bundle can be judged on: dark parts, bright defects.

    The networks are random, so what they point at is what is marked: the tenth of every defective
    image where the bundle's own FP32 score map is highest.
    """
    write_images(root / "train/good", 12)
    write_images(root / "test/good", count, 0, 80)
    write_images(root / "test/spot", count, 150, 256)
    folder = root / "ground_truth/spot"
    folder.mkdir(parents=True)
    inspector = open_graphs(bundle, threads=1)
    for path in sorted((root / "test/spot").iterdir()):
        score_map = inspector.inspect(read_frame(path)).score_map
        mask = (score_map > np.quantile(score_map, 0.9)).astype(np.uint8) * 255
        cv2.imwrite(str(folder / f"{path.stem}_mask.png"), cv2.resize(mask, (48, 48)))
    return root
