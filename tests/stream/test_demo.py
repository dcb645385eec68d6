from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from dad_edge.bundle import Bundle
from dad_edge.data.demo import KINDS
from dad_edge.errors import StorageError
from dad_edge.stream.demo import run_demo, show


def test_the_demo_writes_video_sheet_and_log_and_tells_the_truth(
    tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo-out"
    result = run_demo(tiny_bundle, out, parts=12)
    show(result)
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    frames = [line for line in lines if line["record"] == "frame"]
    assert len(frames) == 12
    for kind, (rejected, parts) in result.caught.items():
        of_kind = [frame for frame in frames if frame["kind"] == kind]
        assert parts == len(of_kind) > 0
        assert rejected == sum(frame["verdict"] != "good" for frame in of_kind)
    assert cv2.VideoCapture(str(out / "annotated.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 12
    sheet = cv2.imread(str(out / "contact-sheet.png"))
    assert sheet is not None
    assert sheet.std() > 20
    told = capsys.readouterr().err
    for path in result.files.values():
        assert path in told.replace("\n", "")
    assert f"{result.inspection_fps:.1f} frames/s of inspection" in told
    assert json.loads(json.dumps(result.as_record()))["summary"]["frames"] == 12


def test_a_second_demo_replaces_the_first(tiny_bundle: Bundle, tmp_path: Path) -> None:
    run_demo(tiny_bundle, tmp_path, parts=3)
    run_demo(tiny_bundle, tmp_path, parts=2)
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 4
    assert cv2.VideoCapture(str(tmp_path / "annotated.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 2


def test_a_demo_into_a_file_is_a_storage_error(tiny_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        run_demo(tiny_bundle, tmp_path / "file", parts=1)


def test_sixty_parts_hold_every_kind() -> None:
    from dad_edge.data.demo import line
    from dad_edge.stream.demo import _DEFECT_RATE

    kinds = {sample.kind for sample, _ in zip(line(0, _DEFECT_RATE, 64), range(60), strict=False)}
    assert kinds == {"good", *KINDS}
