"""Overlays depend on the heat alone; sheets hold what they were given."""

import cv2
import numpy as np
import pytest

from dad_edge.errors import StorageError
from dad_edge.image.pictures import (
    COLUMNS,
    GREEN,
    RED,
    InspectedImage,
    SheetRow,
    contact_sheet,
    draw_text,
    heat_legend,
    heat_overlay,
    inspection_row,
    inspection_views,
    mark_mask,
    write_picture,
)


def inspected(score: float = 0.9, kind: str = "scratch", shape=(48, 64)) -> InspectedImage:
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    heat = np.zeros((16, 16), np.uint8)
    heat[4:8, 4:8] = 255
    return InspectedImage(
        name="part.png",
        kind=kind,
        score=score,
        frame=frame,
        restored=np.full((16, 16, 3), 90, np.uint8),
        heat=heat,
        mask=None if kind == "good" else (heat > 0).astype(np.uint8),
    )


def count_pixels(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((picture == np.array(colour, np.uint8)).all(axis=2).sum())


def test_no_heat_leaves_the_frame_as_it_is():
    frame = inspected().frame
    assert np.array_equal(heat_overlay(frame, np.zeros(frame.shape[:2], np.uint8)), frame)


def test_the_colour_of_a_heat_never_depends_on_the_rest_of_the_picture():
    frame = np.full((8, 8, 3), 120, np.uint8)
    weak = np.zeros((8, 8), np.uint8)
    weak[2, 2] = 60
    with_strong = weak.copy()
    with_strong[5, 5] = 255
    alone, beside = heat_overlay(frame, weak)[2, 2], heat_overlay(frame, with_strong)[2, 2]
    assert np.array_equal(alone, beside)
    assert not np.array_equal(alone, frame[2, 2])


def test_heat_of_another_size_lies_where_it_belongs():
    frame = np.full((64, 32, 3), 120, np.uint8)
    heat = np.zeros((16, 8), np.uint8)
    heat[8:, :] = 255
    overlay = heat_overlay(frame, heat)
    assert overlay.shape == frame.shape
    assert np.array_equal(overlay[:24], frame[:24])
    assert not (overlay[40:] == frame[40:]).all(axis=2).any()


def test_the_legend_is_the_overlay_of_a_ramp():
    legend = heat_legend(256, 4)
    grey = np.full((1, 1, 3), 200, np.uint8)
    for heat in (0, 100, 255):
        assert np.array_equal(
            legend[0, heat], heat_overlay(grey, np.array([[heat]], np.uint8))[0, 0]
        )


def test_marking_changes_only_the_defect_and_its_outline():
    image = inspected(shape=(16, 16))
    before = image.frame.copy()
    marked = mark_mask(image.frame, image.mask)
    changed = (marked != image.frame).any(axis=2)
    assert changed[image.mask > 0].all()
    assert not changed[image.mask == 0].any()
    assert np.array_equal(image.frame, before)
    assert np.array_equal(mark_mask(image.frame, None), image.frame)


def test_outcomes_and_the_threshold_itself():
    assert inspected(0.5).outcome(0.5) == "missed defect"
    assert inspected(0.51).outcome(0.5) == "correct"
    assert inspected(0.5, "good").outcome(0.5) == "correct"
    assert inspected(0.51, "good").outcome(0.5) == "false alarm"


def test_views_all_have_the_size_of_the_frame():
    views = inspection_views(inspected())
    assert len(views) == len(COLUMNS)
    assert {view.shape for view in views} == {(48, 64, 3)}


def test_sheet_shows_the_tiles_and_a_verdict_each_row():
    rows = [inspection_row(inspected(0.9), 0.5), inspection_row(inspected(0.1, "good"), 0.5)]
    sheet = contact_sheet(rows, COLUMNS, "A title", "and more", tile=64)
    assert sheet.dtype == np.uint8
    assert count_pixels(sheet, RED) > 300
    assert count_pixels(sheet, GREEN) > 300
    frame = rows[0].tiles[0][1:-1, 1:-1]
    found = cv2.matchTemplate(sheet, frame, cv2.TM_SQDIFF).min()
    assert found < 1.0
    only_ok = contact_sheet(rows[1:], COLUMNS, "A title", tile=64)
    assert count_pixels(only_ok, RED) == 0
    assert only_ok.shape[0] < sheet.shape[0]


def test_sheet_without_verdicts_takes_tiles_of_any_shape():
    tall, wide = np.zeros((90, 30, 3), np.uint8), np.zeros((10, 300, 3), np.uint8)
    sheet = contact_sheet([SheetRow((tall, wide), "step 100")], ("Input", "Mask"), "Training")
    assert count_pixels(sheet, RED) + count_pixels(sheet, GREEN) == 0
    assert count_pixels(sheet, (0, 0, 0)) > 1000


def test_sheet_refuses_rows_that_do_not_match_the_columns():
    with pytest.raises(ValueError, match="needs 2 tiles"):
        contact_sheet([SheetRow((np.zeros((4, 4, 3), np.uint8),), "x")], ("A", "B"), "Title")
    with pytest.raises(ValueError, match="must be a row"):
        contact_sheet([], ("A",), "Title")


def test_long_or_foreign_text_stays_in_its_room():
    picture = np.full((40, 300, 3), 255, np.uint8)
    width = draw_text(picture, "Prüfteil_" * 40, (10, 28), 14, (0, 0, 0), room=200)
    assert 150 < width <= 204
    assert (picture[:, 216:] == 255).all()
    assert (picture[:, 10:210] < 128).any()


def test_text_over_the_edge_is_cut_off():
    picture = np.full((10, 20, 3), 255, np.uint8)
    draw_text(picture, "REJECT", (-5, 8), 16, (0, 0, 0))
    assert (picture < 128).any()


@pytest.mark.parametrize("shape", [(4, 5, 3), (4, 5)])
def test_a_picture_is_written_as_it_is_into_a_new_folder(tmp_path, shape):
    picture = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    write_picture(tmp_path / "new/a.png", picture)
    read = cv2.imread(str(tmp_path / "new/a.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(read, picture)
    with pytest.raises(StorageError, match="in the way"):
        write_picture(tmp_path / "new/a.png/b.png", picture)


@pytest.mark.parametrize("name", ["a.mp3", "a"])
def test_a_name_that_no_encoder_knows_is_a_storage_error(tmp_path, name):
    (tmp_path / name).write_bytes(b"old")
    with pytest.raises(StorageError, match=f"{name} cannot be encoded"):
        write_picture(tmp_path / name, np.zeros((2, 2, 3), np.uint8))
    assert (tmp_path / name).read_bytes() == b"old"


def test_a_picture_that_the_encoder_refuses_is_a_storage_error(tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, "imencode", lambda *_: (False, None))
    with pytest.raises(StorageError, match=r"a\.png cannot be encoded"):
        write_picture(tmp_path / "a.png", np.zeros((2, 2, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []
