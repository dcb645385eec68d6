from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny import TINY, save_discs

from dad_edge.config import TrainConfig
from dad_edge.data.dataset import TrainingSet, choose_kept_out, load_square
from dad_edge.errors import DataError


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_discs(tmp_path_factory.mktemp("data"), 5)


def open_set(root: Path, **settings: int) -> TrainingSet:
    return TrainingSet(root, TINY, TrainConfig(**{"batch_size": 4, **settings}))


def test_batches_are_half_normal_half_synthetic(discs: Path) -> None:
    images = open_set(discs)
    originals = {load_square(p, 32).tobytes() for p in (discs / "train/good").iterdir()}
    for step in range(5):
        frames, masks, plain = images.batch(step)
        assert frames.shape == (4, 32, 32, 3)
        assert frames.dtype == np.uint8
        assert masks.shape == (4, 32, 32)
        assert not masks[:2].any()
        assert masks[2:].any(axis=(1, 2)).all()
        assert all(frame.tobytes() in originals for frame in frames[:2])
        assert not any(frame.tobytes() in originals for frame in frames[2:])
        assert all(frame.tobytes() in originals for frame in plain)
        np.testing.assert_array_equal(frames[~masks], plain[~masks])


def test_a_batch_depends_on_seed_and_step_only(discs: Path) -> None:
    first, second = open_set(discs, seed=3), open_set(discs, seed=3)
    expected = [first.batch(step) for step in range(4)]
    for step in (3, 0, 2):
        again = second.batch(step)
        np.testing.assert_array_equal(again.frames, expected[step].frames)
        np.testing.assert_array_equal(again.masks, expected[step].masks)
    other = open_set(discs, seed=4).batch(0)
    assert (other.frames != expected[0].frames).any()
    assert (expected[0].frames != expected[1].frames).any()


def test_an_epoch_shows_different_images(discs: Path) -> None:
    images = open_set(discs, batch_size=2)
    assert images.steps_per_epoch == 2
    firsts = {images.batch(step).frames[0].tobytes() for step in range(40)}
    assert len(firsts) == 5
    within = [images.batch(step).frames[0].tobytes() for step in range(2)]
    assert len(set(within)) == 2


def test_fewer_images_than_a_batch(discs: Path) -> None:
    images = open_set(discs, batch_size=12)
    assert images.steps_per_epoch == 1
    assert images.batch(7).frames.shape[0] == 12
    assert len({frame.tobytes() for frame in images.batch(0).frames[:6]}) == 5


def test_objects_are_found(discs: Path) -> None:
    foregrounds = open_set(discs).foregrounds
    assert foregrounds is not None
    assert all(0.1 < mask.mean() < 0.5 for mask in foregrounds)


def test_progress_counts_the_images(discs: Path) -> None:
    calls: list[tuple[int, int]] = []
    TrainingSet(
        discs, TINY, TrainConfig(), progress=lambda done, total: calls.append((done, total))
    )
    assert calls == [(n, 5) for n in range(1, 6)]


def test_textures_are_used(discs: Path, tmp_path: Path) -> None:
    (tmp_path / "leather").mkdir()
    red = np.full((32, 32, 3), (0, 0, 255), np.uint8)
    cv2.imwrite(str(tmp_path / "leather" / "a.png"), red)
    images = TrainingSet(discs, TINY, TrainConfig(batch_size=12), textures=tmp_path)
    frames, masks, _ = images.batch(0)
    marked = frames[masks].astype(int)
    assert ((marked[:, 2] - marked[:, 0]) > 50).any()


def test_one_image_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has 1 normal image\(s\); training needs 2"):
        open_set(save_discs(tmp_path, 1))


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    root = save_discs(tmp_path, 3)
    (root / "train/good/001.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"001\.png is empty"):
        open_set(root)


def test_a_texture_folder_without_images(discs: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"texture folder .* has no images"):
        TrainingSet(discs, TINY, TrainConfig(), textures=tmp_path)


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        open_set(tmp_path / "missing")


def test_parts_are_kept_out_by_their_content(tmp_path: Path) -> None:
    digests = [f"{i * 7 % 40:064x}" for i in range(40)]
    out = choose_kept_out(digests)
    assert out == sorted(out)
    assert {int(digests[i], 16) for i in out} == set(range(8))
    assert len(choose_kept_out([f"{i:064x}" for i in range(200)])) == 30
    assert choose_kept_out(digests[:31]) == []


def test_parts_kept_out_do_not_teach(tmp_path: Path) -> None:
    images = TrainingSet(save_discs(tmp_path, 36), TINY, TrainConfig(batch_size=4))
    assert len(images) == 28
    assert len(images.parts.kept_out) == 8
    assert not images.parts.kept_out.keys() & images.parts.trained_on.keys()
    seen = {row.tobytes() for step in range(14) for row in images.batch(step).originals}
    assert len(seen) == 28

    batch = images.kept_out(5)
    assert batch is not None
    assert batch.frames.shape == (10, 32, 32, 3)
    assert not {frame.tobytes() for frame in batch.originals} & seen
    assert not batch.masks[:5].any()
    assert batch.masks[5:].any(axis=(1, 2)).all()
    np.testing.assert_array_equal(batch.frames[:5], batch.originals[:5])
    again = images.kept_out(5)
    assert again is not None
    np.testing.assert_array_equal(batch.frames, again.frames)
    assert TrainingSet(save_discs(tmp_path / "few", 6), TINY, TrainConfig()).kept_out(5) is None


def test_frames_without_a_part_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = save_discs(tmp_path, 3)
    open_set(root)
    assert not caplog.messages
    cv2.imwrite(str(root / "train/good/light-off.png"), np.zeros((32, 32, 3), np.uint8))
    open_set(root)
    assert "1 of 4 normal images show nothing" in caplog.text
    assert "light-off.png" in caplog.text
