"""The public face: few names, one import, nothing heavy until one of them is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import dad_edge
from dad_edge.bundle import Bundle
from dad_edge.errors import ModelError


def test_every_public_name_is_there_and_says_what_it_is() -> None:
    for name in dad_edge.__all__:
        value = getattr(dad_edge, name)
        assert name == "__version__" or value.__doc__, name
    assert set(dad_edge.__all__) == set(dir(dad_edge))
    with pytest.raises(AttributeError, match="no attribute 'open_inspektor'"):
        dad_edge.open_inspektor  # noqa: B018


def test_importing_it_imports_nothing_heavy() -> None:
    code = "import dad_edge, sys; print(sorted({'numpy', 'cv2', 'onnx'} & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )
    assert done.stdout.strip() == "[]"


def test_from_a_folder_and_a_file_to_a_verdict(
    tiny_bundle: Bundle, dark_frame: np.ndarray, tmp_path: Path
) -> None:
    part = tmp_path / "part.png"
    cv2.imwrite(str(part), dark_frame)
    with dad_edge.open_inspector(str(tiny_bundle.path), threads=1) as inspector:
        inspection = inspector.inspect(dad_edge.read_frame(part))
    assert inspection.verdict == "good"
    assert isinstance(inspection, dad_edge.Inspection)
    with dad_edge.open_inspector(tiny_bundle, threads=1) as inspector:
        assert inspector.inspect(dark_frame).score == inspection.score


def test_a_folder_that_is_no_bundle_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not a bundle"):
        dad_edge.open_inspector(tmp_path)
