"""A checkpoint in the authors' layout becomes a run that gives the numbers it should."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import make_golden
import numpy as np
import pytest
import torch
from make_golden import ARGS, GOLDEN, write_checkpoint
from typer.testing import CliRunner

from dad_edge.cli.main import app
from dad_edge.config import RECIPES, DenoiserConfig, Recipe, ScheduleConfig
from dad_edge.deploy.export import TOLERANCE as PARITY_TOLERANCE
from dad_edge.deploy.export import export, write_graphs
from dad_edge.errors import ModelError, StorageError
from dad_edge.graphs.quantize import load_graph, to_fp16
from dad_edge.graphs.tensorrt import for_tensorrt
from dad_edge.model import diffusion
from dad_edge.model.checkpoint import RECIPE, WEIGHTS, load_detector, read_tensors
from dad_edge.model.detector import Detector
from dad_edge.model.import_authors import import_checkpoint, infer_recipe
from dad_edge.report.evaluate import checkpoint_candidate
from dad_edge.runtime.cpu.engine_onnx import LeanEngine
from dad_edge.runtime.cpu.engine_torch import torch_inspector
from tests.model.test_authors import GOLDEN as REFERENCE
from tests.model.test_authors import needs_golden

TOLERANCE = 1e-4
"""FP32 on both sides."""
HALF_TOLERANCE = 2e-2
"""That of the accuracy gate for FP16."""

Content = dict[str, Any]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("authors") / "params-best.pt"
    write_checkpoint(path)
    return path


@pytest.fixture(scope="module")
def run(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that the command makes of the checkpoint."""
    folder = tmp_path_factory.mktemp("runs") / "plate"
    done = CliRunner().invoke(app, ["import", str(checkpoint), "--out", str(folder)])
    assert done.exception is None, done.output
    return folder


@pytest.fixture(scope="module")
def detector(run: Path) -> Detector:
    return load_detector(run)[0].requires_grad_(False)


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    with np.load(GOLDEN) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def assert_near(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=TOLERANCE)
    assert expected.std() > 100 * TOLERANCE


def test_the_golden_file_is_what_its_script_writes(golden: dict[str, torch.Tensor]) -> None:
    written = make_golden.golden()
    assert written.keys() == golden.keys()
    for name, value in written.items():
        torch.testing.assert_close(value, golden[name], rtol=0, atol=TOLERANCE)


def test_one_step(detector: Detector, golden: dict[str, torch.Tensor]) -> None:
    t = golden["t"]
    alpha_bar = detector.alpha_bar[t][:, None, None, None]
    x_t = diffusion.corrupt(golden["image"], golden["eps"], alpha_bar)
    assert_near(x_t, golden["x_t"])
    noise = detector.denoiser(x_t, t)
    assert_near(noise, golden["pred_eps"])
    restored = diffusion.one_step_estimate(x_t, noise, alpha_bar)
    assert_near(restored, golden["pred_x0"])
    mask = torch.sigmoid(detector.segment(golden["image"], diffusion.clamp(restored)))
    assert_near(mask, golden["mask"])


def test_norm_guided(detector: Detector, golden: dict[str, torch.Tensor]) -> None:
    mask, restored = detector(golden["image"], torch.stack([golden["eps"], golden["eps_noisier"]]))
    noisier = diffusion.corrupt(golden["image"], golden["eps_noisier"], detector.alpha_bar[400])
    assert_near(detector.estimate(noisier, torch.tensor([400, 400]))[1], golden["noisier_x0"])
    assert_near(restored[0], golden["guided_x0"])
    assert_near(mask, golden["guided_mask"])


def test_the_recipe_says_what_the_checkpoint_is(run: Path) -> None:
    _, recipe = load_detector(run)
    assert recipe.model.size == "edge"
    assert recipe.model.image_size == 32
    assert recipe.model.denoiser == DenoiserConfig(
        base_channels=32, channel_mults=(1, 2), res_blocks=1, attention_resolutions=(16,), heads=4
    )
    assert recipe.model.segmenter.base_width == 2
    assert recipe.model.schedule == ScheduleConfig(beta_end=2e-2)
    assert (recipe.model.fusion, recipe.model.lambdas) == ("norm_guided", (200, 400))
    assert recipe.model.value_range == (0.0, 1.0)
    assert recipe.train.noise_loss_on == "normal"


def test_the_run_inspects_a_frame(run: Path, bright_frame: np.ndarray) -> None:
    inspection = torch_inspector(load_detector(run)[0]).inspect_batch([bright_frame])[0]
    assert inspection.score_map.shape == (32, 32)
    assert 0 < inspection.score < 1
    assert checkpoint_candidate(run, device="cpu").inspector.backend


def test_the_run_exports(run: Path, tmp_path: Path) -> None:
    bundle, parity = export(run, tmp_path / "bundle")
    assert parity.mask <= PARITY_TOLERANCE
    assert parity.score <= PARITY_TOLERANCE
    assert bundle.model == load_detector(run)[1].model


def test_graphs_for_tensorrt_give_their_numbers_in_half_precision(
    detector: Detector, golden: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    steps = copy.copy(detector)
    lambdas = tuple(int(step) for step in golden["t"])  # of the rows
    steps.config = replace(detector.config, lambdas=lambdas, fusion="average")
    write_graphs(steps, tmp_path)

    def run(name: str, **given: torch.Tensor) -> torch.Tensor:
        graph = for_tensorrt(to_fp16(load_graph(tmp_path / name)))
        assert not any(node.op_type == "InstanceNormalization" for node in graph.graph.node)
        inputs = {key: value.numpy() for key, value in given.items()}
        (result,) = LeanEngine(graph).run(inputs).values()
        return torch.from_numpy(result)

    noise = run("denoiser.onnx", x_t=golden["x_t"])
    torch.testing.assert_close(noise, golden["pred_eps"], rtol=0, atol=HALF_TOLERANCE)
    restored = diffusion.clamp(golden["pred_x0"])
    mask = run("segmenter.onnx", pair=torch.cat([golden["image"], restored], dim=1))
    torch.testing.assert_close(mask, golden["mask"], rtol=0, atol=HALF_TOLERANCE)


def test_average_fusion(checkpoint: Path, tmp_path: Path) -> None:
    recipe = import_checkpoint(checkpoint, tmp_path / "run", fusion="average")
    assert (recipe.model.fusion, recipe.model.lambdas) == ("average", (100, 200))
    assert load_detector(tmp_path / "run")[1] == recipe


def test_their_settings_reach_the_recipe(checkpoint: Path, tmp_path: Path) -> None:
    changed = {"T": 500, "eval_normal_t": 50, "EPOCHS": 300, "diffusion_lr": 2e-4, "img_size": 32}
    changed["seg_lr"] = 1e-5
    recipe = imported(checkpoint, tmp_path, lambda content: content["args"].update(changed))
    assert recipe.model.lambdas == (50, 400)
    assert recipe.model.schedule == ScheduleConfig(timesteps=500, beta_start=2e-4, beta_end=4e-2)
    assert (recipe.train.epochs, recipe.train.learning_rate) == (300, 2e-4)
    assert recipe.train.segmenter_rate == pytest.approx(0.05)
    assert recipe.train.max_timestep == 500


def test_half_precision_and_extra_entries_are_fine(
    checkpoint: Path, detector: Detector, tmp_path: Path
) -> None:
    def change(content: Content) -> None:
        content["optimizer"] = {"state": [torch.zeros(2)]}
        weights = content["unet_model_state_dict"]
        weights |= {name: value.half() for name, value in weights.items()}

    imported(checkpoint, tmp_path, change)
    weights, _ = read_tensors(tmp_path / "run" / WEIGHTS)
    assert {value.dtype for value in weights.values()} == {torch.float32, torch.int64}
    torch.testing.assert_close(
        weights["denoiser.stem.weight"], detector.denoiser.stem.weight, rtol=1e-3, atol=1e-3
    )


def test_the_papers_networks_are_called_paper() -> None:
    paper = RECIPES["paper"].model
    with torch.device("meta"):
        weights = Detector(paper).state_dict()
    args = {**ARGS, "img_size": [256, 256], "attention_resolutions": "32,16,8"}
    model = infer_recipe(weights, args, "norm_guided").model
    assert (model.size, model.denoiser, model.segmenter) == (
        "paper",
        paper.denoiser,
        paper.segmenter,
    )


@needs_golden
def test_the_reference_checkpoint(tmp_path: Path) -> None:
    import_checkpoint(REFERENCE, tmp_path / "run")
    guided = load_detector(tmp_path / "run")[0].requires_grad_(False)
    with np.load(REFERENCE.with_suffix(".npz")) as file:
        arrays = {name: torch.from_numpy(file[name]) for name in file.files}
    mask, restored = guided(arrays["image"], torch.stack([arrays["eps"], arrays["eps_noisier"]]))
    assert_near(restored[0], arrays["guided_x0"])
    torch.testing.assert_close(mask, arrays["guided_mask"], rtol=0, atol=TOLERANCE)


def imported(checkpoint: Path, folder: Path, change: Callable[[Content], object]) -> Recipe:
    """Import a copy of the checkpoint with its content changed."""
    content = torch.load(checkpoint, weights_only=False)
    change(content)
    torch.save(content, folder / "changed.pt")
    return import_checkpoint(folder / "changed.pt", folder / "run")


def drop(part: str, name: str) -> Callable[[Content], object]:
    return lambda content: content[part].pop(name)


def put(part: str, name: str, value: object) -> Callable[[Content], object]:
    return lambda content: content[part].update({name: value})


UNET, SEGMENTER = "unet_model_state_dict", "seg_model_state_dict"
NAN = torch.full((3,), float("nan"))


@pytest.mark.parametrize(
    ("change", "message", "next_step"),
    [
        (lambda content: content.pop("args"), "it has no 'args'", "give a .pt file"),
        (lambda content: content.pop(UNET), f"it has no '{UNET}'", "give a .pt file"),
        (drop(UNET, "down.0.0.weight"), "no tensor 'denoiser.stem.weight'", "whole .pt"),
        (drop(UNET, "middle.1.to_qkv.bias"), "no tensor 'denoiser.middle.0.att", "whole .pt"),
        (drop(UNET, "up.2.0.in_layers.2.weight"), "no tensor 'denoiser.up.2.block", "whole .pt"),
        (drop(SEGMENTER, "decoder_segment.fin_out.0.bias"), "'segmenter.head.bias'", "whole .pt"),
        (put(UNET, "out.2.bias", torch.zeros(4)), r"'denoiser.head.bias' .* \(4,\)", "whole .pt"),
        (put(UNET, "out.2.bias", "text"), "'denoiser.head.bias' .* not a tensor", "whole .pt"),
        (put(UNET, "out.2.bias", NAN), "'denoiser.head.bias' .* not finite", "earlier checkpoint"),
        (put(UNET, "down.0.0.weight", torch.zeros(3)), r"stem.weight' .* \(3,\)", "whole .pt"),
        (
            put(UNET, "down.0.0.weight", torch.zeros(24, 3, 3, 3)),
            "32 channels, not a multiple of the 24",
            "whole",
        ),
        (put(UNET, "down.0.0.weight", torch.zeros(8, 3, 3, 3)), "norm_groups 32", "'args'"),
        (put("args", "attention_resolutions", "8"), "attention.norm.weight' .* no place", "'args'"),
        (put("args", "attention_resolutions", "a"), "'attention_resolutions' is 'a'", "'args'"),
        (put("args", "img_size", [32, 64]), r"'img_size' is \[32, 64\]", "'args'"),
        (put("args", "img_size", 48), "image_size 48 must be a multiple", "'args'"),
        (drop("args", "T"), "'T' is missing", "'args'"),
        (put("args", "num_heads", 5), "heads 5", "'args'"),
        (put("args", "beta_schedule", "cosine"), "'beta_schedule' is 'cosine'", "'linear'"),
        (put("args", "condition_w", 2), "'condition_w' is 2", "--fusion average"),
        (put("args", "EPOCHS", "many"), "epochs: expected int", "correct the value"),
    ],
)
def test_what_does_not_fit_is_named(
    checkpoint: Path,
    tmp_path: Path,
    change: Callable[[Content], object],
    message: str,
    next_step: str,
) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        imported(checkpoint, tmp_path, change)
    assert next_step in caught.value.next_step
    assert not (tmp_path / "run").exists()


def invoke(*arguments: Path | str) -> BaseException | None:
    return CliRunner().invoke(app, ["import", *map(str, arguments)]).exception


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"not a checkpoint")
    error = invoke(tmp_path / "a.pt", "--out", tmp_path / "run")
    assert isinstance(error, ModelError)
    assert "is not a checkpoint of the authors' code" in error.message
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


class _Runs:
    """Pickled by a hostile file: would write a file when read without restrictions."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_code_in_a_checkpoint_does_not_run(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="more than tensors and plain settings"):
        imported(checkpoint, tmp_path, put("args", "T", _Runs(tmp_path / "ran")))
    assert not (tmp_path / "ran").exists()


def test_a_taken_folder_is_left_alone(checkpoint: Path, run: Path, tmp_path: Path) -> None:
    taken = tmp_path / "run"
    shutil.copytree(run, taken)
    (taken / RECIPE).write_text("mine")
    error = invoke(checkpoint, "--out", taken)
    assert isinstance(error, StorageError)
    assert "exists already" in error.message
    assert (taken / RECIPE).read_text() == "mine"


def test_an_unknown_fusion(checkpoint: Path, tmp_path: Path) -> None:
    error = invoke(checkpoint, "--out", tmp_path / "run", "--fusion", "mean")
    assert isinstance(error, SystemExit)
    assert error.code == 2
