"""What the package warns of reaches the person once; every name can be printed."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from dad_edge.bundle import Bundle
from dad_edge.cli.main import app
from dad_edge.cli.messages import SHOWN, say, steady_messages
from dad_edge.cli.terminal import emit, with_web_address
from dad_edge.errors import DataError

LATIN = os.fsdecode(b"teil-\xfc")
"""A name that a system with Latin-1 names gave."""


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """A logger of the package, shown as the command line shows it."""
    with steady_messages():
        yield logging.getLogger("dad_edge.somewhere")


def test_a_warning_is_one_line(logger: logging.Logger, capfd: pytest.CaptureFixture[str]) -> None:
    logger.warning("%s is %d pixels high.", LATIN, 3)
    logger.warning("%s is %d pixels high.", LATIN, 3)
    assert capfd.readouterr().err == "warning: teil-\\xfc is 3 pixels high.\n"


def test_of_one_kind_the_first_are_shown(
    logger: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    for number in range(20):
        logger.warning("frame %d is dark.", number)
    logger.warning("another kind.")
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == SHOWN + 2
    assert lines[-2:] == [
        "warning: more of this kind are not shown.",
        "warning: another kind.",
    ]


def test_bytes_that_are_no_text_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    say(LATIN)
    emit({"name": LATIN, "kind": "Kratzer, größer"})
    printed = capsys.readouterr()
    assert printed.err == "teil-\\xfc\n"
    printed.out.encode("utf-8")
    assert json.loads(printed.out) == {"name": "teil-\\xfc", "kind": "Kratzer, größer"}
    assert DataError(f"{LATIN} is empty.", f"remove {LATIN}").message == "teil-\\xfc is empty."


def test_names_that_are_not_utf8_end_no_command(
    tiny_bundle: Bundle, tmp_path: Path, dark_frame: np.ndarray, bright_frame: np.ndarray
) -> None:
    root = tmp_path / LATIN
    files = {
        f"train/good/{LATIN}.png": dark_frame,
        "train/good/0.png": dark_frame,
        f"test/good/{LATIN}.png": dark_frame,
        f"test/{LATIN}/{LATIN}.png": bright_frame,
        f"ground_truth/{LATIN}/{LATIN}_mask.png": np.eye(48, 64, dtype=np.uint8),
    }
    try:
        for name, pixels in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    bundle = ["--bundle", str(tiny_bundle.path)]
    out = tmp_path / "out"
    for command in (
        ["evaluate", "--data", str(root), "--out", str(out / LATIN), "--json", *bundle],
        ["calibrate", "--data", str(root), "--json", *bundle],
        ["stream", "--source", str(root), "--out", str(out / f"{LATIN}-s"), *bundle],
        ["preview-anomalies", "--data", str(root), "--out", str(out / f"{LATIN}.png"), "--json"],
    ):
        result = CliRunner().invoke(app, command, catch_exceptions=False)
        assert result.exit_code == 0, result.output
    report = json.loads((out / LATIN / "report.json").read_text(encoding="utf-8"))
    assert "\\xfc" in json.dumps(report, ensure_ascii=False)


@pytest.mark.parametrize("command", ["train", "evaluate", "calibrate", "preview-anomalies"])
def test_a_link_to_itself_is_no_data_folder(
    tiny_bundle: Bundle, tmp_path: Path, command: str
) -> None:
    if command == "train":
        pytest.importorskip("torch")
    (tmp_path / "loop").symlink_to("loop")
    bundle = ["--bundle", str(tiny_bundle.path)] if command in ("evaluate", "calibrate") else []
    result = CliRunner().invoke(app, [command, "--data", str(tmp_path / "loop"), *bundle])
    assert isinstance(result.exception, DataError)
    assert "does not exist" in result.exception.message


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["stream", "--web"], ["stream", "--web=127.0.0.1:8080"]),
        (["stream", "--web", "--camera", "0"], ["stream", "--web=127.0.0.1:8080", "--camera", "0"]),
        (["stream", "--web", "0.0.0.0:80"], ["stream", "--web", "0.0.0.0:80"]),
        (["stream", "--web=[::1]:80"], ["stream", "--web=[::1]:80"]),
        ([], []),
    ],
)
def test_the_page_has_an_address_where_none_is_named(given: list[str], expected: list[str]) -> None:
    assert with_web_address(given) == expected
