"""The check of the scene on a GPU is the one on the CPU, whatever the type of the tensors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from device_engine import OnnxOnDevice
from fake_cuda import FakeDriver
from small_networks import make_network_bundle
from tiny import TINY

from dad_edge.bundle import DENOISER, SEGMENTER
from dad_edge.config import FramingConfig, ModelConfig
from dad_edge.image.scene import Scene
from dad_edge.model.diffusion import alpha_bar_table
from dad_edge.runtime.gpu.driver import Device
from dad_edge.runtime.gpu.inspector import FusedInspector, keep_mask
from dad_edge.runtime.gpu.ops import CudaOps
from dad_edge.runtime.seams import Element

pytest.importorskip("cuda.core", reason="cuda-core is not installed (extra 'cuda')")

MODELS = {
    "plain": TINY,
    "norm guided": replace(TINY, fusion="norm_guided"),
    "tiles": replace(TINY, framing=FramingConfig(tiles=(2, 2), keep_aspect=True)),
}
SCENE = Scene(brightness=(0.3, 0.7), contrast=(0.05, 0.4))
PART = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8).repeat(4, 0).repeat(4, 1)


def beside(level: int) -> np.ndarray:
    """The part, and where the mask ignores it something else."""
    frame = PART.copy()
    frame[:, :24] = level
    return frame


@pytest.mark.parametrize("element", ["f32", "f16"])
@pytest.mark.parametrize("ignoring", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_frames_without_a_part_are_invalid(
    driver: FakeDriver, tmp_path: Path, name: str, ignoring: bool, element: Element
) -> None:
    model: ModelConfig = MODELS[name]
    bundle = make_network_bundle(tmp_path / "bundle")
    ignore = np.tile(np.arange(8) < 4, (8, 1)) if ignoring else None
    table = alpha_bar_table(model.schedule)
    alpha_bar = [float(table[step]) for step in model.lambdas]
    device = Device()
    keep = keep_mask(model, ignore)
    ops = CudaOps(device, model, alpha_bar, element=element, keep=keep)
    engines = (
        OnnxOnDevice(driver, bundle.path / DENOISER, (3, 3, 32), ("x_t", "noise"), element),
        OnnxOnDevice(driver, bundle.path / SEGMENTER, (6, 1, 32), ("pair", "mask"), element),
    )
    frames = [PART, np.zeros_like(PART), beside(255), PART // 8 + 110]
    with FusedInspector(device, ops, *engines, 1.0, ignore=ignore) as inspector:
        assert {found.verdict for found in inspector.inspect_batch(frames)} == {"good"}
        inspector.scene = SCENE
        part, black, lit, plain = inspector.inspect_batch(frames)
    assert part.verdict == "good"
    assert (black.verdict, plain.verdict) == ("invalid", "invalid")
    assert str(black.reason).startswith("too dark: brightness 0, parts have 0.3 to 0.7")
    assert str(plain.reason).startswith("too plain: contrast ")
    assert lit.verdict == ("good" if ignoring else "invalid")
