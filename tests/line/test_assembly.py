from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from line_outlets import Kept

from dad_edge.bundle import PACKAGED, Bundle
from dad_edge.errors import DadEdgeError, ModelError, UsageError
from dad_edge.line.assembly import assemble
from dad_edge.line.config import CameraConfig, DriftConfig, LineConfig
from dad_edge.line.runner import Line
from dad_edge.line.thresholds import ThresholdBook
from dad_edge.machine.signals import StopRequest
from dad_edge.stream.frames import Frames, Source


def line_config(folder: Path, **cameras: CameraConfig) -> LineConfig:
    return LineConfig(cameras=cameras, folder=str(folder), drift=DriftConfig(false_alarms=0))


def engines(config: LineConfig) -> tuple[list[str], int]:
    """Names of the cameras, and how many engines they have."""
    hooks = Line(replace(config, folder=config.folder + "-other"))
    cameras, groups = assemble(config, ThresholdBook(config.folder_path), hooks)
    return list(cameras), len(groups)


def test_cameras_share_an_engine_where_bundle_engine_and_device_are_the_same(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_bundle.path, other)
    link = tmp_path / "link"
    link.symlink_to(tiny_bundle.path)
    plain = CameraConfig(source="demo://", bundle=str(tiny_bundle.path))
    config = line_config(
        tmp_path / "line",
        a=plain,
        b=CameraConfig(source="demo://", bundle=str(other)),
        c=replace(plain, bundle=str(link), threshold=0.3, region=(0, 0, 9, 9)),
        d=replace(plain, device="cpu"),
    )
    assert engines(config) == (["a", "b", "c", "d"], 3)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"bundle": "no/such/bundle"}, ModelError),
        ({"engine": "no-such-engine"}, ModelError),
        ({"device": "gpu"}, UsageError),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_runs(
    tiny_bundle: Bundle, tmp_path: Path, change: dict[str, str], kind: type[DadEdgeError]
) -> None:
    camera = CameraConfig(source="demo://", bundle=str(tiny_bundle.path))
    config = line_config(tmp_path, a=replace(camera, **change))  # type: ignore[arg-type]
    with pytest.raises(kind):
        Line(config)


def test_the_demo_bundle_warns_a_live_camera(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def nothing() -> Frames:
        yield from ()

    config = line_config(tmp_path, a=CameraConfig(source=0, bundle=str(PACKAGED)))
    line = Line(config, lambda source, bit_depth: Source(f"camera {source}", nothing(), live=True))
    line.work(lambda on_event: Kept(), StopRequest())
    assert "the demo bundle inspects camera 0" in caplog.text


def test_a_bundle_that_was_not_calibrated_is_warned_of(
    tiny_bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tiny_bundle.path / "thresholds.json").unlink()
    plain = CameraConfig(source="demo://", bundle=str(tiny_bundle.path))
    Line(line_config(tmp_path, a=plain, b=replace(plain, threshold=0.3)))
    assert "the bundle of a has no thresholds" in caplog.text
    assert "the bundle of b" not in caplog.text
