from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

import numpy as np
import pytest
from stream_results import make_result
from tiny import TINY

from dad_edge.bundle import Bundle
from dad_edge.errors import DataError
from dad_edge.image.scene import Scene
from dad_edge.line.view import View
from dad_edge.runtime.inspector import open_inspector
from dad_edge.stream.frames import Frame

LEFT = np.zeros((4, 4), bool)
LEFT[:, :2] = True


def make_frame(image: np.ndarray, mask: np.ndarray | None = None) -> Frame:
    return Frame(image, "7.png", 7, datetime.now(timezone.utc), "dent", mask)


def test_without_a_region_a_frame_stays_as_it_is() -> None:
    frame = make_frame(np.zeros((8, 8, 3), np.uint8))
    assert View(TINY, None, None, None).cut(frame) is frame


def test_only_the_region_is_left_of_a_frame_and_of_its_truth() -> None:
    image = np.arange(10 * 12 * 3, dtype=np.uint16).astype(np.uint8).reshape(10, 12, 3)
    mask = np.arange(120, dtype=np.uint8).reshape(10, 12)
    cut = View(TINY, (2, 3, 5, 4), None, None).cut(make_frame(image, mask))
    np.testing.assert_array_equal(cut.image, image[3:7, 2:7])
    np.testing.assert_array_equal(cut.mask, mask[3:7, 2:7])
    assert cut.image.flags.c_contiguous
    assert (cut.name, cut.index, cut.kind) == ("7.png", 7, "dent")


@pytest.mark.parametrize("region", [(8, 0, 5, 4), (0, 7, 5, 4)])
def test_a_region_beyond_the_frame_is_refused(region: tuple[int, int, int, int]) -> None:
    with pytest.raises(DataError, match="12×10 pixels"):
        View(TINY, region, None, None).cut(make_frame(np.zeros((10, 12, 3), np.uint8)))


def test_a_mask_of_the_camera_gives_what_the_same_mask_of_a_bundle_gives(
    tiny_bundle: Bundle,
) -> None:
    half = np.full((48, 64, 3), 20, np.uint8)
    half[:, :30] = 250
    with open_inspector(tiny_bundle, threads=1) as inspector:
        plain = inspector.inspect(half)
    with open_inspector(replace(tiny_bundle, ignore=LEFT), threads=1) as inspector:
        expected = inspector.inspect(half)
    got = View(TINY, None, LEFT, None).masked(plain)
    assert plain.score > 0.9
    assert got.score == expected.score < 0.1
    np.testing.assert_array_equal(got.score_map, expected.score_map)
    np.testing.assert_array_equal(got.heat, expected.heat)
    assert plain.score_map[:, 0].min() > 0.9, "the inspection of others is not changed"


def test_masks_of_camera_and_bundle_that_leave_nothing_are_refused() -> None:
    inspection = make_result().inspection
    with pytest.raises(DataError, match="leave nothing"):
        View(TINY, None, LEFT, ~LEFT).masked(inspection)


def test_a_frame_outside_of_the_scene_shows_no_part() -> None:
    scene = Scene(brightness=(0.2, 0.8), contrast=(0.0, 0.5))
    image = np.full((3, 32, 32), 0.5, np.float32)
    image[:, :, :16] = 0.0
    inspection = replace(make_result().inspection, image=image)
    whole = View(TINY, None, None, None)
    assert whole.why_no_part(inspection, None) is None
    assert whole.why_no_part(inspection, scene) is None
    dark = replace(inspection, image=image * 0.1)
    assert "too dark" in str(whole.why_no_part(dark, scene))
    only_dark = View(TINY, None, ~LEFT, None)
    assert "too dark" in str(only_dark.why_no_part(inspection, scene))
    assert View(TINY, None, None, ~LEFT).why_no_part(inspection, scene) is not None


def test_without_a_picture_nothing_is_said_of_the_scene() -> None:
    scene = Scene(brightness=(0.2, 0.8), contrast=(0.0, 0.5))
    inspection = replace(make_result().inspection, image=np.zeros((3, 0, 0), np.float32))
    assert View(TINY, None, None, None).why_no_part(inspection, scene) is None


def test_masks_are_kept_for_a_few_sizes_only() -> None:
    view = View(TINY, None, LEFT, None)
    inspection = make_result().inspection
    for side in range(8, 20):
        view.masked(replace(inspection, score_map=np.zeros((side, side), np.float32)))
    assert len(view._masks) == 4
