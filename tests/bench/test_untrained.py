from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from small_networks import small_denoiser, small_segmenter
from tiny import TINY

from dad_edge.bench.case import UNTRAINED
from dad_edge.bench.untrained import cache, untrained_bundle, untrained_detector, writable_copy
from dad_edge.bundle import DENOISER, SEGMENTER, Bundle
from dad_edge.errors import StorageError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_no_weight_is_all_zero_so_that_nothing_can_be_left_out() -> None:
    detector = untrained_detector(TINY)
    assert all(weight.any() for weight in detector.parameters())
    again = untrained_detector(TINY)
    pairs = zip(detector.parameters(), again.parameters(), strict=True)
    assert all((one == other).all() for one, other in pairs)


def test_a_network_is_exported_once_and_again_where_it_was_damaged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exported = []

    def write_graphs(detector: Any, folder: Path) -> None:
        exported.append(detector.config)
        onnx.save(small_denoiser(), folder / DENOISER)
        onnx.save(small_segmenter(), folder / SEGMENTER)

    monkeypatch.setattr("dad_edge.deploy.export.write_graphs", write_graphs)
    bundle = untrained_bundle(TINY)
    assert bundle.manifest.class_name == UNTRAINED
    assert untrained_bundle(TINY).path == bundle.path
    assert exported == [TINY]
    (bundle.path / DENOISER).write_bytes(b"damaged")
    assert untrained_bundle(TINY).onnx_digests == bundle.onnx_digests
    assert exported == [TINY, TINY]
    other = replace(TINY, lambdas=(100,))
    assert untrained_bundle(other).path != bundle.path


def test_engines_are_built_in_a_copy_that_stays(tiny_bundle: Bundle) -> None:
    copy = writable_copy(tiny_bundle)
    assert copy.path != tiny_bundle.path
    assert copy.onnx_digests == tiny_bundle.onnx_digests
    (copy.path / "engines").mkdir()
    assert writable_copy(tiny_bundle).path == copy.path
    assert (copy.path / "engines").is_dir()
    assert writable_copy(copy).path == copy.path


def test_a_folder_of_another_user_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache().stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr("os.getuid", lambda: 123456)
    with pytest.raises(StorageError, match="belongs to another user"):
        cache()


def test_a_link_in_its_place_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"dad-edge-bench-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="or is no folder"):
        cache()
