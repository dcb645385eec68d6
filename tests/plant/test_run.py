"""A plant with a stand-in for the commands, which notes what it was asked to do; once for real."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tiny import save_discs

from dad_edge.errors import DataError, Interrupted, UsageError
from dad_edge.files import sole_writer
from dad_edge.plant import run as running
from dad_edge.plant.config import Bar, Plant, Product, read_plant
from dad_edge.plant.page import write_page
from dad_edge.plant.run import RECORD, Outcome, below, plan, run_plant

STAND_IN = """
import json, os, pathlib, signal, sys, time
name, *options = sys.argv[1:]
product = pathlib.Path.cwd().name
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps([product, name, *options]) + "\\n")
if os.environ.get("FAILS") == f"{product} {name}":
    print("error: it does not go.\\nnext: mend it", file=sys.stderr)
    sys.exit(4)
def write(path):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
def toml(mapping, prefix=""):
    tables = [key for key in mapping if isinstance(mapping[key], dict)]
    lines = [f"{key} = {json.dumps(mapping[key])}" for key in mapping if key not in tables]
    for key in tables:
        lines += [f"[{prefix}{key}]", *toml(mapping[key], f"{prefix}{key}.")]
    return lines
if name == "train":
    write("run/state.safetensors")
    if "--resume" not in options:
        from dad_edge.config import RECIPES
        from dad_edge.documents import to_mapping
        import dataclasses
        seed = int(options[options.index("--seed") + 1])
        recipe = RECIPES["nano"]
        framing = recipe.model.framing
        if "--tiles" in options:
            framing = dataclasses.replace(framing, tiles=(2, 1))
        model = dataclasses.replace(recipe.model, framing=framing)
        train = dataclasses.replace(recipe.train, seed=seed, max_minutes=30.0)
        recipe = dataclasses.replace(recipe, model=model, train=train)
        pathlib.Path("run/recipe.toml").write_text("\\n".join(toml(to_mapping(recipe))))
    if os.environ.get("WAITS") == product:
        stopped = []
        signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
        write("waits")
        while not stopped:
            time.sleep(0.01)
        sys.exit(143)
    write("run/summary.json")
elif name == "export":
    write("bundle/bundle.json")
elif name == "calibrate":
    write("bundle/thresholds.json")
elif name == "evaluate":
    write("report/report.html")
    kinds = [dict(kind="good", images=4, detected_at_threshold=None, false_alarms=1),
             dict(kind="scratch", images=8, detected_at_threshold=6, false_alarms=None)]
    summary = dict(image_auroc=0.985, pixel_auroc=0.9, pixel_ap=0.5, pro=None)
    print(json.dumps(dict(summary=summary, kinds=kinds, scores=[1] * 99)))
    sys.exit(0)
print("{}")
"""
STAGES = ["train", "export", "calibrate", "evaluate"]


def make_data(root: Path, tested: bool = True) -> Path:
    save_discs(root, 3)
    if tested:
        for kind in ("good", "scratch"):
            (root / "test" / kind).mkdir(parents=True)
            shutil.copy(root / "train/good/000.png", root / "test" / kind / "0.png")
    return root


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plant:
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    monkeypatch.setattr(running, "COMMAND", (sys.executable, str(script)))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    return Plant(
        products={
            "flange": Product(data=str(make_data(tmp_path / "a")), precisions=("int8",)),
            "bolt": Product(data=str(make_data(tmp_path / "b")), seed=3, tiles="2x1"),
        }
    )


def calls(tmp_path: Path) -> list[list[str]]:
    """What the commands were asked for since the last time."""
    path = tmp_path / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return [json.loads(line) for line in lines]


def done(tmp_path: Path, plant: Plant, said: list[str] | None = None) -> list[Outcome]:
    return run_plant(plant, tmp_path / "out", (said if said is not None else []).append)


def changed(plant: Plant, name: str, **values: Any) -> Plant:
    from dataclasses import replace

    return Plant(products=plant.products | {name: replace(plant.products[name], **values)})


def test_every_stage_of_every_product_once(tmp_path: Path, plant: Plant) -> None:
    assert plan(plant, tmp_path / "out")["bolt"] == dict.fromkeys(STAGES, "it was not done yet")
    outcomes = done(tmp_path, plant)
    made = calls(tmp_path)
    assert [call[:2] for call in made] == [
        *(["flange", name] for name in [*STAGES, "build"]),
        *(["bolt", name] for name in STAGES),
    ]
    train = " ".join(made[5])
    assert "--size nano --max-minutes 30 --seed 3 --tiles 2x1" in train
    assert f"--data {tmp_path / 'b'}" in train
    assert outcomes[0].figures == {
        "image_auroc": 98.5, "pixel_auroc": 90.0, "pixel_ap": 50.0, "pro": None,
        "found": 75.0, "rejected": 25.0,
    }  # fmt: skip
    assert set(outcomes[0].stages.values()) == {"done"}

    again = done(tmp_path, plant)
    assert calls(tmp_path) == []
    assert set(again[0].stages.values()) == {"kept"}
    assert again[0].figures == outcomes[0].figures


def test_just_what_depends_on_a_change_is_done_again(tmp_path: Path, plant: Plant) -> None:
    done(tmp_path, plant)
    calls(tmp_path)

    def again(plant: Plant) -> list[str]:
        done(tmp_path, plant)
        made = calls(tmp_path)
        assert {call[0] for call in made} <= {"flange"}
        return [call[1] for call in made]

    plant = changed(plant, "flange", false_reject_rate=0.05)
    assert again(plant) == ["calibrate", "evaluate", "build"]
    image = tmp_path / "a" / "test" / "scratch" / "0.png"
    cv2.imwrite(str(image), np.zeros((9, 9, 3), np.uint8))
    assert again(plant) == ["evaluate", "build"]
    plant = changed(plant, "flange", precisions=("int8", "fp16"))
    assert again(plant) == ["build"]
    (tmp_path / "out/flange/bundle/thresholds.json").unlink()
    assert again(plant) == ["calibrate"]
    cv2.imwrite(str(tmp_path / "a/train/good/9.png"), np.zeros((9, 9, 3), np.uint8))
    assert again(plant) == [*STAGES, "build", "build"]
    assert (tmp_path / "out/flange/run-1/state.safetensors").exists(), "the earlier run is kept"
    shutil.move(tmp_path / "a", tmp_path / "moved")
    assert again(changed(plant, "flange", data=str(tmp_path / "moved"))) == []
    plant = changed(plant, "flange", data=str(tmp_path / "moved"), bar=Bar(found=1.0))
    assert again(plant) == []


def test_a_product_that_fails_does_not_stop_the_others(
    tmp_path: Path, plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAILS", "flange calibrate")
    said: list[str] = []
    flange, bolt = done(tmp_path, plant, said)
    assert flange.stages == {
        "train": "done", "export": "done", "calibrate": "failed", "evaluate": "not begun",
        "build int8": "not begun",
    }  # fmt: skip
    assert "exit code 4: error: it does not go. next: mend it" in flange.problems[0]
    assert any("mend it" in line for line in said)
    assert set(bolt.stages.values()) == {"done"}
    monkeypatch.delenv("FAILS")
    calls(tmp_path)
    done(tmp_path, plant)
    assert [call[1] for call in calls(tmp_path)] == ["calibrate", "evaluate", "build"]


def test_a_signal_lets_a_training_save_and_it_is_continued(
    tmp_path: Path, plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAITS", "flange")

    def stop_once_it_trains() -> None:
        while not (tmp_path / "out/flange/waits").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop_once_it_trains)
    thread.start()
    with pytest.raises(Interrupted, match="train was interrupted"):
        done(tmp_path, plant)
    thread.join()
    monkeypatch.delenv("WAITS")
    assert plan(plant, tmp_path / "out")["flange"]["train"] == "it was interrupted"
    calls(tmp_path)
    done(tmp_path, plant)
    first = calls(tmp_path)[0]
    assert first[:2] == ["flange", "train"]
    assert "--resume" in first
    assert "--size" not in first
    assert not (tmp_path / "out/flange/run-1").exists()


@pytest.mark.parametrize("change", ["seed = 7", "batch_size = 4", "nonsense", "tiles = [1, 3]"])
def test_a_run_that_someone_else_put_there_is_not_continued(
    tmp_path: Path, plant: Plant, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    plant = Plant(products={"bolt": plant.products["bolt"]})
    monkeypatch.setenv("FAILS", "bolt train")
    done(tmp_path, plant)
    monkeypatch.delenv("FAILS")
    run = tmp_path / "out" / "bolt" / "run"
    options = [part for call in calls(tmp_path) for part in call]
    subprocess.run(
        [sys.executable, str(tmp_path / "stand_in.py"), "train", *options],
        cwd=run.parent,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    recipe = run / "recipe.toml"
    text = re.sub(rf"(?m)^{change.split(' =')[0]} = .*$", change, recipe.read_text())
    recipe.write_text(text if text != recipe.read_text() else change)
    calls(tmp_path)
    done(tmp_path, plant)
    first, *others = calls(tmp_path)
    assert "--resume" not in first
    assert [call[1] for call in others] == STAGES[1:]
    assert (run.parent / "run-1" / "state.safetensors").is_file(), "nothing is lost"

    shutil.copy(run.parent / "run-1" / "recipe.toml", recipe)
    assert plan(plant, tmp_path / "out")["bolt"]["train"] == "another run lies in its place"
    done(tmp_path, plant)
    assert [call[1] for call in calls(tmp_path)] == STAGES, "all is made of the new weights"
    assert (run.parent / "run-2").is_dir()


def test_a_product_that_another_process_works_on_is_left_to_it(
    tmp_path: Path, plant: Plant
) -> None:
    with sole_writer(tmp_path / "out" / "flange"):
        flange, bolt = done(tmp_path, plant)
    assert "another dad-edge writes into" in flange.problems[0]
    assert set(bolt.stages.values()) == {"done"}


def test_a_damaged_record_means_that_nothing_was_done(tmp_path: Path, plant: Plant) -> None:
    done(tmp_path, plant)
    for content in (b"", b"[]", b"\xff", b'{"train": {"key"'):
        (tmp_path / "out" / "bolt" / RECORD).write_bytes(content)
        calls(tmp_path)
        done(tmp_path, plant)
        assert [call[1] for call in calls(tmp_path)] == STAGES


def test_without_test_images_nothing_is_evaluated(tmp_path: Path, plant: Plant) -> None:
    data = make_data(tmp_path / "c", tested=False)
    plant = Plant(products={"nut": Product(data=str(data), bar=Bar(image_auroc=90.0))})
    [nut] = done(tmp_path, plant)
    assert list(nut.stages) == ["train", "export", "calibrate"]
    assert nut.problems == ["image_auroc is not defined, 90 % was asked for"]


def test_images_that_are_not_there_are_told_of_before_anything_begins(
    tmp_path: Path, plant: Plant
) -> None:
    plant = changed(plant, "bolt", data=str(tmp_path / "gone"))
    with pytest.raises(DataError):
        done(tmp_path, plant)
    assert calls(tmp_path) == []


def test_what_is_below_a_bar() -> None:
    figures = {"image_auroc": 98.5, "found": 75.0, "rejected": 2.0}
    assert below(Bar(image_auroc=98.5, found=75.0, rejected=2.0), figures) == []
    assert below(Bar(image_auroc=98.6, found=75.1, rejected=1.9), figures) == [
        "image_auroc is 98.5 %, at least 98.6 % was asked for",
        "found is 75 %, at least 75.1 % was asked for",
        "rejected is 2 %, at most 1.9 % was asked for",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "products"),
        ("[products]", "there is no product"),
        ("[products.a]", "data"),
        ('[products.a]\ndata = " "', "data is empty"),
        ('[products.a]\ndata = "x"\nminuts = 3', "minuts"),
        ('[products.a]\ndata = "x"\nminutes = 0', "minutes must be positive"),
        ('[products.a]\ndata = "x"\nsize = "big"', "size"),
        ('[products.a]\ndata = "x"\nfalse_reject_rate = 1', "false_reject_rate"),
        ('[products.a]\ndata = "x"\nprecisions = ["int4"]', "precisions"),
        ('[products.a]\ndata = "x"\nbar = { found = 101 }', "found must lie"),
        ('[products."a/b"]\ndata = "x"', "is no name for a product"),
        ("[products", "TOML"),
    ],
)
def test_a_bad_file_is_refused_with_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "plant.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_plant(path)
    assert said in caught.value.message
    assert caught.value.next_step


def test_the_page_has_a_row_a_product_and_its_problems(tmp_path: Path, plant: Plant) -> None:
    outcomes = done(tmp_path, changed(plant, "bolt", bar=Bar(found=80.0)))
    text = write_page(outcomes, tmp_path / "out").read_text()
    cells = [
        re.sub(r"<[^>]*>|\s+", " ", row).split() for row in re.findall(r"<tr>.*?</tr>", text, re.S)
    ]
    assert cells[1][:6] == ["flange", "98.5", "90.0", "–", "75.0", "25.0"]
    assert " ".join(cells[3]) == "found is 75 %, at least 80 % was asked for"
    for link in re.findall(r'href="([^"]*)"', text):
        assert (tmp_path / "out" / link).is_file()
    odd = Outcome("<b>", problems=["<script>"])
    assert "<script>" not in write_page([odd], tmp_path / "out").read_text()


def test_a_plant_for_real(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed (extra 'train')")
    root = save_discs(tmp_path / "data", 40)
    for kind, value in (("good", 170), ("dark", 20)):
        (root / "test" / kind).mkdir(parents=True)
        for index in range(4):
            frame = cv2.imread(str(root / f"train/good/{index:03}.png"))
            frame[frame > 100] = value
            cv2.imwrite(str(root / "test" / kind / f"{index}.png"), frame)
    (tmp_path / "plant.toml").write_text('[products.disc]\ndata = "data"\nminutes = 0.02\n')

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "dad_edge", "plant", *command],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
        )

    done = run("run", "--json")
    assert done.returncode == 0, done.stderr
    [disc] = json.loads(done.stdout)["products"]
    assert disc["stages"] == dict.fromkeys(STAGES, "done")
    assert 0 <= disc["figures"]["image_auroc"] <= 100
    assert (tmp_path / "plant" / "disc" / "report" / "report.html").is_file()
    check = run("check", "--json")
    assert json.loads(check.stdout) == {"disc": dict.fromkeys(STAGES, "kept")}
