"""This project's networks with the weights and against the numbers of the authors' code."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dad_edge.config import DenoiserConfig, ModelConfig, ScheduleConfig, SegmenterConfig
from dad_edge.errors import ModelError
from dad_edge.model import diffusion
from dad_edge.model.authors import (
    AuthorsCheckpoint,
    read_authors_checkpoint,
    rename_denoiser,
    rename_segmenter,
)
from dad_edge.model.detector import Detector

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"
GOLDEN = REFERENCE / "official_64px_base32.pt"
TOLERANCE = 1e-4

needs_golden = pytest.mark.skipif(
    not GOLDEN.is_file(), reason=f"the golden vectors {GOLDEN.name} are not on this machine"
)

MODEL = ModelConfig(
    size="edge",
    image_size=64,
    denoiser=DenoiserConfig(
        base_channels=32, channel_mults=(1, 2, 3, 4), attention_resolutions=(32, 16, 8)
    ),
    segmenter=SegmenterConfig(base_width=8),
    schedule=ScheduleConfig(beta_end=2e-2),
)


@pytest.fixture(scope="module")
def checkpoint() -> AuthorsCheckpoint:
    return read_authors_checkpoint(GOLDEN)


@pytest.fixture(scope="module")
def detector(checkpoint: AuthorsCheckpoint) -> Detector:
    detector = Detector(MODEL).eval().requires_grad_(False)
    detector.denoiser.load_state_dict(checkpoint.denoiser)
    detector.segmenter.load_state_dict(checkpoint.segmenter)
    return detector


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    with np.load(GOLDEN.with_suffix(".npz")) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@needs_golden
def test_every_array_is_compared(golden: dict[str, torch.Tensor]) -> None:
    given = {"image", "t", "eps", "eps_noisier"}
    compared = {"x_t", "pred_eps", "pred_x0", "mask_from_clamped_x0"}
    assert given | compared | {"noisier_x0", "guided_x0", "guided_mask"} == golden.keys()


def assert_near(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=TOLERANCE)


@needs_golden
def test_their_settings_are_plain_values(checkpoint: AuthorsCheckpoint) -> None:
    assert type(checkpoint.args) is dict
    assert checkpoint.args["img_size"] == [64, 64]
    assert checkpoint.args["base_channels"] == 32
    assert checkpoint.args["attention_resolutions"] == "32,16,8"


@needs_golden
def test_one_step(detector: Detector, golden: dict[str, torch.Tensor]) -> None:
    t = golden["t"]
    alpha_bar = detector.alpha_bar[t][:, None, None, None]
    x_t = diffusion.corrupt(golden["image"], golden["eps"], alpha_bar)
    assert_near(x_t, golden["x_t"])
    noise = detector.denoiser(x_t, t)
    assert_near(noise, golden["pred_eps"])
    assert golden["pred_eps"].std() > 0.1
    restored = diffusion.one_step_estimate(x_t, noise, alpha_bar)
    assert_near(restored, golden["pred_x0"])
    clamped = diffusion.clamp(restored)
    assert_near(detector.estimate(x_t, t)[1], clamped)
    mask = torch.sigmoid(detector.segment(golden["image"], clamped))
    assert_near(mask, golden["mask_from_clamped_x0"])


@needs_golden
def test_norm_guided(detector: Detector, golden: dict[str, torch.Tensor]) -> None:
    guided = Detector(replace(MODEL, fusion="norm_guided", lambdas=(200, 400))).eval()
    guided.load_state_dict(detector.state_dict())
    noise = torch.stack([golden["eps"], golden["eps_noisier"]])
    with torch.no_grad():
        mask, restored = guided(golden["image"], noise)
        noisier = diffusion.corrupt(golden["image"], noise[1], guided.alpha_bar[400])
        _, noisier_x0 = guided.estimate(noisier, torch.tensor([400, 400]))
    assert_near(noisier_x0, golden["noisier_x0"])
    assert_near(restored[0], golden["guided_x0"])
    assert_near(mask, golden["guided_mask"])


class _Runs:
    """Pickled by a hostile file: would write a file when read without restrictions."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_nothing_in_a_checkpoint_runs(tmp_path: Path) -> None:
    torch.save({"args": _Runs(tmp_path / "ran")}, tmp_path / "a.pt")
    with pytest.raises(ModelError, match=r"a\.pt is not a checkpoint of the authors' code"):
        read_authors_checkpoint(tmp_path / "a.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"text", pickle.dumps([1, 2], 2)])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(ModelError, match="is not a checkpoint"):
        read_authors_checkpoint(tmp_path / "a.pt")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        read_authors_checkpoint(tmp_path / "a.pt")


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    weights = {"conv1.weight": torch.zeros(1)}
    torch.save(
        {"unet_model_state_dict": weights, "seg_model_state_dict": weights, "args": {}},
        tmp_path / "a.pt",
    )
    with pytest.raises(ModelError, match="is not a checkpoint"):
        read_authors_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("name", ["what.weight", "down.0.9.weight", "middle.7.norm.weight"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(KeyError):
        rename_denoiser({name: 0})


def test_unknown_segmenter_names_are_refused() -> None:
    with pytest.raises(KeyError):
        rename_segmenter({"decoder_segment.zz1.0.weight": 0})
