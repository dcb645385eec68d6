from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import TINY

from dad_edge.config import Recipe, SegmenterConfig, TrainConfig
from dad_edge.errors import ModelError
from dad_edge.model.checkpoint import (
    RECIPE,
    WEIGHTS,
    load_detector,
    read_tensors,
    write_recipe,
    write_tensors,
)
from dad_edge.model.detector import Detector

TINY_RECIPE = Recipe(model=TINY, train=TrainConfig(seed=5, max_minutes=1.5))


@pytest.fixture(scope="module")
def detector() -> Detector:
    torch.manual_seed(0)
    return Detector(TINY)


@pytest.fixture(scope="module")
def saved(detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    write_recipe(folder, TINY_RECIPE)
    write_tensors(folder / WEIGHTS, detector.state_dict(), {"step": "7"})
    return folder


@pytest.fixture
def run(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "run"))


def test_a_run_survives_the_disk(run: Path, detector: Detector) -> None:
    loaded, recipe = load_detector(run)
    assert recipe == TINY_RECIPE
    assert not loaded.training
    for name, value in detector.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    assert read_tensors(run / WEIGHTS)[1] == {"step": "7"}


def test_weights_are_a_json_header_and_numbers(run: Path, detector: Detector) -> None:
    """Nothing is pickled: header length, header, and exactly the tensors' bytes."""
    content = (run / WEIGHTS).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    del header["__metadata__"]
    assert set(header) == set(detector.state_dict())
    ends = [entry["data_offsets"][1] for entry in header.values()]
    assert 8 + length + max(ends) == len(content)
    assert sorted(p.name for p in run.iterdir()) == [WEIGHTS, RECIPE]


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_truncated_file_is_refused(run: Path, kept: int) -> None:
    (run / WEIGHTS).write_bytes((run / WEIGHTS).read_bytes()[:kept])
    with pytest.raises(ModelError, match=r"model\.safetensors is damaged"):
        load_detector(run)


def test_a_checkpoint_of_another_size_is_refused(run: Path) -> None:
    wider = replace(TINY, segmenter=SegmenterConfig(base_width=6))
    write_recipe(run, replace(TINY_RECIPE, model=wider))
    with pytest.raises(ModelError, match=r"does not fit the size 'nano'.*size mismatch") as caught:
        load_detector(run)
    assert RECIPE in caught.value.next_step


@pytest.mark.parametrize(
    ("name", "says"),
    [(RECIPE, r"recipe\.toml: no such file"), (WEIGHTS, r"model\.safetensors does not exist")],
)
def test_a_missing_file_is_named(run: Path, name: str, says: str) -> None:
    (run / name).unlink()
    with pytest.raises(ModelError, match=says):
        load_detector(run)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not the folder of a run"):
        load_detector(tmp_path / "missing")
