"""The PyTorch backend computes what the detector computes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny import TINY

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra 'train')")

from dad_edge.config import ModelConfig, Recipe  # noqa: E402
from dad_edge.errors import ModelError  # noqa: E402
from dad_edge.model import checkpoint, philox  # noqa: E402
from dad_edge.model.detector import Detector  # noqa: E402
from dad_edge.runtime.cpu.engine_torch import (  # noqa: E402
    TorchEngine,
    open_torch_inspector,
    torch_engines,
    torch_inspector,
)

TOLERANCE = 1e-5
"""FP32 on both sides; only the order of sums differs."""

GUIDED = replace(TINY, fusion="norm_guided", lambdas=(200, 400))


def make_detector(config: ModelConfig) -> Detector:
    """Random weights with a denoiser whose output is not zero, as it is before training."""
    torch.manual_seed(0)
    detector = Detector(config).eval()
    with torch.no_grad():
        for weights in detector.parameters():
            weights.add_(0.05 * torch.randn(weights.shape))
    return detector


@pytest.mark.parametrize("config", [TINY, GUIDED], ids=["average", "norm_guided"])
def test_the_inspector_agrees_with_the_detector_on_the_same_noise(
    config: ModelConfig, dark_frame: np.ndarray, bright_frame: np.ndarray
) -> None:
    detector = make_detector(config)
    inspector = torch_inspector(detector, seed=3)
    inspections = inspector.inspect_batch([dark_frame, bright_frame])
    image = torch.from_numpy(np.stack([result.image for result in inspections]))
    side = config.image_size
    noise = torch.from_numpy(
        np.stack(
            [
                philox.normal((3, side, side), seed=3, lambda_index=i, frame_counter=0)
                for i in range(len(config.lambdas))
            ]
        )
    )
    with torch.inference_mode():
        mask, restored = detector(image, noise[:, None].expand(-1, 2, -1, -1, -1))
        no_noise = detector.denoiser(image, torch.tensor([1, 1]))
    assert no_noise.abs().mean() > 1e-3, "the denoiser must matter for this test to mean anything"
    for row, result in enumerate(inspections):
        np.testing.assert_allclose(result.score_map, mask[row, 0], atol=TOLERANCE)
        np.testing.assert_allclose(result.restored, restored[-1, row], atol=TOLERANCE)
    assert mask[0].std() > 10 * TOLERANCE


def test_rows_get_the_time_step_of_their_lambda(dark_frame: np.ndarray) -> None:
    detector = make_detector(TINY)
    denoiser, _ = torch_engines(detector)
    same = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)
    noise = denoiser.run({"x_t": np.repeat(same, 4, axis=0)})["noise"]
    np.testing.assert_allclose(noise[0], noise[1], atol=TOLERANCE)
    np.testing.assert_allclose(noise[2], noise[3], atol=TOLERANCE)
    assert np.abs(noise[0] - noise[2]).max() > 10 * TOLERANCE


def test_a_run_on_disk_inspects(tmp_path: Path, dark_frame: np.ndarray) -> None:
    detector = make_detector(TINY)
    checkpoint.write_recipe(tmp_path, Recipe(model=TINY))
    checkpoint.write_tensors(tmp_path / checkpoint.WEIGHTS, detector.state_dict(), {})
    inspector = open_torch_inspector(tmp_path, threshold=0.0)
    result = inspector.inspect(dark_frame)
    assert result.verdict == "defect"
    assert result.score == pytest.approx(torch_inspector(detector).inspect(dark_frame).score)
    assert f"PyTorch {torch.__version__} cpu fp32" in inspector.backend


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        open_torch_inspector(tmp_path)


def test_cudnn_stays_on() -> None:
    """Its flags switch it off unless they are told not to."""
    seen = []

    def forward(value: torch.Tensor) -> torch.Tensor:
        seen.append((torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32))
        return value

    TorchEngine(forward, "x", "y").run({"x": np.zeros(1, np.float32)})
    assert seen == [(True, False)]
