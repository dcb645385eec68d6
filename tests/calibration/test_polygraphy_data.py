from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_networks import make_network_bundle, small_segmenter, write_images

from calibration.polygraphy_data import load_denoiser_data, load_segmenter_data
from dad_edge.bundle import DENOISER
from dad_edge.errors import UsageError

SCRIPT = Path(__file__).parents[2] / "calibration" / "polygraphy_data.py"


def test_both_networks_see_what_they_see_on_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_network_bundle(tmp_path / "bundle", small_segmenter())
    data = write_images(tmp_path / "good", 5)
    monkeypatch.setenv("DAD_EDGE_BUNDLE", str(bundle.path))
    monkeypatch.setenv("DAD_EDGE_DATA", str(data))
    monkeypatch.setenv("DAD_EDGE_COUNT", "3")
    noisy = [inputs["x_t"] for inputs in load_denoiser_data()]
    pairs = [inputs["pair"] for inputs in load_segmenter_data()]
    assert [value.shape for value in noisy] == [(2, 3, 32, 32)] * 3
    assert [value.shape for value in pairs] == [(2, 6, 32, 32)] * 3
    assert all(value.dtype == np.float32 for value in (*noisy, *pairs))
    # x_t of a λ is one image with noise; the pair's image is without, the same for both λ.
    assert np.array_equal(pairs[0][0, :3], pairs[0][1, :3])
    assert not np.array_equal(noisy[0][0], noisy[0][1])
    assert not np.array_equal(noisy[0], noisy[1])


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAD_EDGE_BUNDLE", raising=False)
    with pytest.raises(UsageError, match="DAD_EDGE_BUNDLE is not set"):
        next(load_denoiser_data())
    bundle = make_network_bundle(tmp_path / "bundle", small_segmenter())
    monkeypatch.setenv("DAD_EDGE_BUNDLE", str(bundle.path))
    monkeypatch.setenv("DAD_EDGE_DATA", str(write_images(tmp_path / "good", 2)))
    monkeypatch.setenv("DAD_EDGE_COUNT", "no")
    with pytest.raises(UsageError, match="DAD_EDGE_COUNT is 'no'"):
        next(load_denoiser_data())


def test_polygraphy_takes_it(tmp_path: Path) -> None:
    pytest.importorskip("polygraphy", reason="Polygraphy is not installed (extra 'debug')")
    bundle = make_network_bundle(tmp_path / "bundle", small_segmenter())
    variables = {
        **os.environ,
        "DAD_EDGE_BUNDLE": str(bundle.path),
        "DAD_EDGE_DATA": str(write_images(tmp_path / "good", 3)),
    }
    polygraphy = [
        str(Path(sys.executable).with_name("polygraphy")),
        "run",
        str(bundle.path / DENOISER),
    ]
    loader = ["--onnxrt", "--data-loader-script", f"{SCRIPT}:load_denoiser_data"]
    done = subprocess.run(
        [*polygraphy, *loader, "--save-inputs", "inputs.json"],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    from polygraphy.json import load_json

    assert [inputs["x_t"].shape for inputs in load_json(tmp_path / "inputs.json")] == [
        (2, 3, 32, 32)
    ] * 3
