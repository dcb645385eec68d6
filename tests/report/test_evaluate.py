"""Figures, exclusions and refusals on a small data set that the tiny bundle tells apart."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from dad_edge import __version__
from dad_edge.bundle import THRESHOLDS, Bundle, open_bundle
from dad_edge.cli.main import app
from dad_edge.data.digest import digest_items
from dad_edge.data.layouts import list_items
from dad_edge.errors import DataError, ModelError, StorageError, UsageError
from dad_edge.files import sha256_of
from dad_edge.report.evaluate import ARBITRARY, CALIBRATED, ORACLE, bundle_candidate, evaluate
from dad_edge.report.page import write_report
from dad_edge.report.results import Figure, Report, report_data
from dad_edge.report.table import report_tables

SIDE = 64
PATCH = (slice(16, 48), slice(8, 40))


def write_image(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def write_part(root: Path, kind: str, number: int, *, split: str = "test") -> None:
    """A dark part; a defective one has a bright patch, marked in its mask."""
    rng = np.random.default_rng(number)
    frame = rng.integers(0, 60, (SIDE, SIDE, 3), dtype=np.uint8)
    if kind != "good":
        frame[PATCH] = rng.integers(220, 256, (32, 32, 3), dtype=np.uint8)
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[PATCH] = 255
        write_image(root / "ground_truth" / kind / f"{number:03d}_mask.png", mask)
    write_image(root / split / kind / f"{number:03d}.png", frame)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """MVTec layout: 3 normal images, 4 good, 3 chipped and 2 dirty parts."""
    root = tmp_path / "plates"
    for number in range(3):
        write_part(root, "good", number, split="train")
    for kind, numbers in (
        ("good", range(10, 14)),
        ("chip", range(20, 23)),
        ("dirt", range(30, 32)),
    ):
        for number in numbers:
            write_part(root, kind, number)
    return root


def measure(bundle: Bundle, data: Path, split: str = "test") -> Report:
    return evaluate(bundle_candidate(bundle, threads=1), data, split)  # type: ignore[arg-type]


def test_separable_parts_are_measured_as_separable(tiny_bundle: Bundle, data: Path) -> None:
    report = measure(tiny_bundle, data)
    assert report.summary.image_auroc.value == 1.0
    assert report.summary.pixel_auroc.value == pytest.approx(1.0)
    assert report.summary.pixel_ap.value == pytest.approx(1.0)
    assert report.summary.pro.value == pytest.approx(1.0)
    assert [(row.kind, row.images) for row in report.kinds] == [
        ("good", 4),
        ("chip", 3),
        ("dirt", 2),
    ]
    assert [row.missed for row in report.kinds] == [None, 0, 0]
    assert report.kinds[0].false_alarms == 0
    assert (report.threshold, report.threshold_origin) == (0.5, CALIBRATED)


def test_the_context_says_what_made_the_figures(tiny_bundle: Bundle, data: Path) -> None:
    context = report_data(measure(tiny_bundle, data))["context"]
    assert context["data"]["name"] == "plates"
    assert (context["data"]["images"], context["data"]["defective"]) == (9, 5)
    assert context["bundle"]["sha256"]["denoiser.onnx"] == sha256_of(
        tiny_bundle.path / "denoiser.onnx"
    )
    assert "ONNX Runtime" in context["backend"]
    assert context["images_per_second"] > 0
    assert str(data.parent) not in json.dumps(context)


def test_the_report_names_data_model_seed_and_versions(
    tiny_bundle: Bundle, data: Path, tmp_path: Path
) -> None:
    page = write_report(
        evaluate(bundle_candidate(tiny_bundle, seed=7, threads=1), data), tmp_path / "report"
    )
    written = json.loads((page.parent / "report.json").read_text(encoding="utf-8"))["context"]
    assert written["data"]["sha256"] == digest_items(list_items(data, "test"))
    assert written["seed"] == 7
    versions = written["environment"]["packages"]
    assert versions["dad-edge"] == __version__
    assert versions["onnxruntime"]
    digests = written["bundle"]["sha256"]
    assert {"bundle.json", "denoiser.onnx", "segmenter.onnx"} <= digests.keys()
    words = page.read_text(encoding="utf-8")
    for shown in (written["data"]["sha256"], *digests.values(), *versions.values()):
        assert shown in words


@pytest.mark.parametrize("removed", ["test/good", "ground_truth"])
def test_what_a_split_cannot_define_is_said_with_its_reason(
    tiny_bundle: Bundle, data: Path, tmp_path: Path, removed: str
) -> None:
    shutil.rmtree(data / removed)
    report = measure(tiny_bundle, data)
    expected = (
        {"image_auroc": "no good images"}
        if removed == "test/good"
        else dict.fromkeys(("pixel_auroc", "pixel_ap", "pro"), "no marked defects")
    )
    page = write_report(report, tmp_path / "report")
    written = json.loads((page.parent / "report.json").read_text())
    assert written["undefined"] == expected
    assert {key for key, value in written["summary"].items() if value is None} == expected.keys()
    console = Console(width=80, file=io.StringIO())
    console.print(report_tables(report))
    for reason in expected.values():
        for shown in (page.read_text(encoding="utf-8"), console.file.getvalue()):
            assert shown.count(f"not defined: {reason}") >= len(expected)


def test_examples_show_the_parts_that_their_names_say(tiny_bundle: Bundle, data: Path) -> None:
    report = measure(tiny_bundle, data)
    shown = [image for images in report.examples.values() for image in images]
    assert len({image.name for image in shown}) == len(shown) == 9
    score_of = {score.name: score.score for score in report.scores}
    for image in shown:
        assert image.score == score_of[image.name]
        assert image.kind == image.name.split("/")[0]
        assert (image.mask is None) == (image.kind == "good")
        assert image.frame[20, 20].mean() > 200 or image.kind == "good"


def test_kept_pictures_of_examples_are_small(
    tiny_bundle: Bundle, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dad_edge.report.examples.KEPT_SIDE", SIDE // 4)
    for images in measure(tiny_bundle, data).examples.values():
        assert {image.frame.shape for image in images} <= {(SIDE // 4, SIDE // 4, 3)}


def test_the_train_split_has_no_defects_and_no_figures(tiny_bundle: Bundle, data: Path) -> None:
    report = measure(tiny_bundle, data, "train")
    assert len(report.scores) == 3
    assert report.summary.image_auroc == Figure(undefined="no defective images")
    assert {figure.value for _, _, figure in report.summary.named()} == {None}


def test_without_thresholds_the_report_calls_its_own_an_oracle(
    tiny_bundle: Bundle, data: Path
) -> None:
    (tiny_bundle.path / THRESHOLDS).unlink()
    bundle = open_bundle(tiny_bundle.path)
    report = measure(bundle, data)
    good = [score.score for score in report.scores if score.kind == "good"]
    defect = [score.score for score in report.scores if score.kind != "good"]
    assert max(good) < report.threshold < min(defect)
    assert report.threshold_origin == ORACLE
    assert measure(bundle, data, "train").threshold_origin == ARBITRARY


def test_defects_marked_nowhere_count_in_the_image_figures_only(
    tiny_bundle: Bundle, data: Path
) -> None:
    (data / "ground_truth/dirt/030_mask.png").unlink()
    write_image(data / "ground_truth/dirt/031_mask.png", np.zeros((SIDE, SIDE), np.uint8))
    report = measure(tiny_bundle, data)
    assert report.context.data.defective_without_mask == 2
    assert report.kinds[2].images == 2
    assert report.summary.image_auroc.value == 1.0
    assert report.summary.pixel_auroc.value == pytest.approx(1.0), (
        "unmarked bright patches must not count as good"
    )


def test_a_mask_of_another_size_is_refused_by_both_names(tiny_bundle: Bundle, data: Path) -> None:
    write_image(data / "ground_truth/chip/021_mask.png", np.full((SIDE, 32), 255, np.uint8))
    with pytest.raises(DataError, match=r"021_mask\.png is 32×64 .*chip/021\.png is 64×64"):
        measure(tiny_bundle, data)


def test_a_damaged_image_is_named_and_never_skipped(tiny_bundle: Bundle, data: Path) -> None:
    (data / "test/chip/021.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"chip/021\.png") as caught:
        measure(tiny_bundle, data)
    assert caught.value.next_step


@pytest.mark.parametrize(
    ("folder", "words"), [("plates/test/none", "does not exist"), ("empty", "known layout")]
)
def test_a_folder_without_a_data_set_is_refused(
    tiny_bundle: Bundle, data: Path, folder: str, words: str
) -> None:
    (data.parent / "empty").mkdir()
    with pytest.raises(DataError, match=words):
        measure(tiny_bundle, data.parent / folder)


def test_a_data_set_without_test_images_is_refused(tiny_bundle: Bundle, data: Path) -> None:
    with pytest.raises(DataError, match="no test images"):
        measure(tiny_bundle, data / "train/good")


def run(*arguments: object) -> tuple[str, str]:
    """Stdout and stderr of `dad-edge evaluate`; its user errors are raised."""
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)], catch_exceptions=False)
    return result.stdout, result.stderr


def test_the_command_writes_the_report_and_prints_the_same_json(
    tiny_bundle: Bundle, data: Path
) -> None:
    stdout, stderr = run("--data", data, "--bundle", tiny_bundle.path, "--json")
    folder = tiny_bundle.path / "reports" / "test-plates"
    assert json.loads(stdout) == json.loads((folder / "report.json").read_text())
    assert json.loads(stdout)["summary"]["image_auroc"] == 1.0
    sheet = cv2.imread(str(folder / "sheet.png"))
    assert sheet is not None
    assert sheet.shape[0] > 500
    assert CALIBRATED in (folder / "report.html").read_text()
    assert "100.00 %" in stderr
    assert "ONNX Runtime" in stderr
    open_bundle(tiny_bundle.path)


def test_the_report_goes_where_out_says(tiny_bundle: Bundle, data: Path, tmp_path: Path) -> None:
    stdout, _ = run("--data", data, "--bundle", tiny_bundle.path, "--out", tmp_path / "here")
    assert stdout == ""
    assert (tmp_path / "here" / "report.html").is_file()
    assert not (tiny_bundle.path / "reports").exists()


def test_arguments_that_do_not_fit_are_refused(tiny_bundle: Bundle, data: Path) -> None:
    with pytest.raises(UsageError, match="two models"):
        run("--data", data, "--bundle", tiny_bundle.path, "--checkpoint", "runs/none")


def test_a_data_folder_that_is_missing_leaves_no_report_folder(
    tiny_bundle: Bundle, data: Path
) -> None:
    with pytest.raises(DataError, match="does not exist"):
        run("--data", data / "typo", "--bundle", tiny_bundle.path)
    assert not (tiny_bundle.path / "reports").exists()


def test_a_report_folder_that_cannot_be_made_is_known_first(
    tiny_bundle: Bundle, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(
        "dad_edge.report.evaluate.evaluate", lambda *_: pytest.fail("work was begun")
    )
    with pytest.raises(StorageError, match="in the way"):
        run("--data", data, "--bundle", tiny_bundle.path, "--out", tmp_path / "file" / "report")


def test_a_checkpoint_that_is_missing_is_refused(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed (extra 'train')")
    with pytest.raises(ModelError, match="not the folder of a run"):
        run("--data", data, "--checkpoint", tmp_path / "none")
