"""An engine that computes wrongly here is not used, and the fastest right one is."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from proofs import accept, outcome
from small_networks import make_network_bundle

from dad_edge.bundle import ENGINES, SEGMENTER, Bundle, open_bundle, write_ignore
from dad_edge.deploy.build import build, find_target
from dad_edge.doctor.checks import examine
from dad_edge.errors import DeviceError, ModelError
from dad_edge.files import sha256_of
from dad_edge.gate.images import demo_images
from dad_edge.gate.verify import unseen_proof, verify
from dad_edge.report.evaluate import bundle_candidate
from dad_edge.runtime import inspector as choosing
from dad_edge.runtime.inspector import choose_engine, engines_in_order, open_inspector
from dad_edge.runtime.opening import open_graphs
from dad_edge.runtime.proof import (
    PROOF,
    make_proof,
    prove,
    read_proof,
    remember,
    remembered,
    write_proof,
)
from dad_edge.runtime.sidecar import Sidecar, write_sidecar
from dad_edge.stream.command import stream

CPU = find_target("onnxruntime")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_network_bundle(tmp_path / "bundle")


def times(monkeypatch: pytest.MonkeyPatch, *outcomes: object) -> None:
    """What the next proofs come to: milliseconds, or why they fail."""
    given = iter(outcomes)

    def next_outcome(*_: object) -> object:
        value = next(given)
        return outcome(value) if isinstance(value, float) else outcome(1.0, str(value))

    monkeypatch.setattr(choosing, "prove", next_outcome)


def flip_a_bit(bundle: Bundle, sidecar: Sidecar) -> Sidecar:
    """The engine after the highest bit of an exponent in its weights has flipped, digests and all:
    as if the machine computed so."""
    folder = bundle.path / ENGINES / sidecar.name
    path = folder / sidecar.files[SEGMENTER].name
    model = onnx.load(path)
    weights = next(i for i in model.graph.initializer if len(i.dims) == 4)
    values = numpy_helper.to_array(weights).copy()
    values.reshape(-1).view(np.uint32)[0] ^= 1 << 30
    weights.CopyFrom(numpy_helper.from_array(values, weights.name))
    onnx.save(model, path)
    file = replace(sidecar.files[SEGMENTER], sha256=sha256_of(path))
    sidecar = replace(sidecar, files=sidecar.files | {SEGMENTER: file})
    write_sidecar(folder, sidecar)
    return sidecar


def test_an_engine_proves_itself(bundle: Bundle) -> None:
    sidecar = accept(bundle, build(bundle, "fp32", CPU))
    proof = read_proof(bundle.path / ENGINES / sidecar.name, sidecar.proof_sha256 or "")
    with open_inspector(bundle, engine=sidecar.name, threads=1) as inspector:
        seen = prove(inspector, proof)
    assert seen.passed
    assert seen.score_error <= seen.mask_error < proof.allowed_mask
    assert seen.frame_ms > 0


def test_a_flipped_bit_is_caught_before_the_first_part(
    bundle: Bundle, caplog: pytest.LogCaptureFixture, dark_frame: np.ndarray
) -> None:
    sidecar = flip_a_bit(bundle, accept(bundle, build(bundle, "fp32", CPU)))
    with pytest.raises(DeviceError, match="computes wrongly on this machine") as caught:
        open_inspector(bundle, engine=sidecar.name)
    assert "doctor" in caught.value.next_step
    with caplog.at_level(logging.WARNING):
        choice = choose_engine(bundle)
    assert choice.name is None, "the FP32 graphs are right"
    assert sidecar.name in choice.passed_over[0]
    assert f"engine '{sidecar.name}' is not used" in caplog.text
    inspection = open_inspector(bundle, threads=1).inspect(dark_frame)
    assert inspection.score == open_graphs(bundle, threads=1).inspect(dark_frame).score


def test_a_proof_that_passed_is_remembered_and_one_that_failed_is_not(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    sidecar = accept(bundle, build(bundle, "fp32", CPU))
    times(monkeypatch, "scores differ", 5.0, 4.0)
    assert choose_engine(bundle).name is None
    assert choose_engine(bundle).name == sidecar.name, "it passed at its second try"
    assert choose_engine(bundle).name == sidecar.name, "nothing is left to prove"


def test_another_machine_asks_again(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    passed = outcome(3.0)
    remember("what", "proof", passed)
    assert remembered("what", "proof") == passed
    assert remembered("else", "proof") is None
    assert remembered("what", "another proof") is None
    monkeypatch.setattr("dad_edge.runtime.proof.fingerprint", lambda: {"cpu": "another"})
    assert remembered("what", "proof") is None


def test_a_damaged_memory_asks_again(tmp_path: Path) -> None:
    remember("what", "proof", outcome(3.0))
    [path] = (tmp_path / "cache of proofs").rglob("*.json")
    for content in ("", "[]", '{"reason": null}', '{"reason": null, "unknown": 1}'):
        path.write_text(content)
        assert remembered("what", "proof") is None


def test_the_fastest_of_the_right_ones_is_taken(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = accept(bundle, build(bundle, "fp16", CPU))
    single = accept(bundle, build(bundle, "fp32", CPU))
    times(monkeypatch, 9.0, 8.0, 10.0)
    assert choose_engine(bundle).name == single.name
    assert choose_engine(open_bundle(bundle.path)).name == single.name != half.name


def test_where_no_engine_is_clearly_faster_the_graphs_inspect(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept(bundle, build(bundle, "fp16", CPU))
    times(monkeypatch, 9.5, 10.0)
    choice = choose_engine(bundle)
    assert choice.name is None
    assert choice.passed_over == ()


def test_engines_stand_in_for_each_other_in_the_order_of_their_speed(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = accept(bundle, build(bundle, "fp16", CPU))
    single = accept(bundle, build(bundle, "fp32", CPU))
    times(monkeypatch, 9.0, 8.0, 10.0)
    assert [c.name for c in engines_in_order(bundle)] == [single.name, half.name, None]
    named = engines_in_order(bundle, half.name)
    assert [choice.name for choice in named] == [half.name, single.name, None]


def test_an_engine_that_proved_nothing_stands_in_for_none(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = accept(bundle, build(bundle, "fp16", CPU))
    accept(bundle, build(bundle, "fp32", CPU))
    times(monkeypatch, 4.0, "scores differ", 10.0)
    assert [choice.name for choice in engines_in_order(bundle)] == [half.name, None]


def test_graphs_that_compute_wrongly_leave_nothing_to_inspect_with(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept(bundle, build(bundle, "fp16", CPU))
    times(monkeypatch, 9.5, "maps differ")
    with pytest.raises(DeviceError, match="the FP32 graphs compute wrongly on this machine"):
        choose_engine(bundle)


@pytest.mark.parametrize("content", [b"", b"not a proof", None])
def test_a_damaged_proof_is_said(bundle: Bundle, content: bytes | None) -> None:
    sidecar = accept(bundle, build(bundle, "fp32", CPU))
    path = bundle.path / ENGINES / sidecar.name / PROOF
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(ModelError, match=r"proof\.npz cannot be used") as caught:
        open_inspector(bundle, engine=sidecar.name)
    assert "dad-edge verify --engine" in caught.value.next_step
    choice = choose_engine(bundle)
    assert choice.name is None
    assert "proof.npz" in choice.passed_over[0]


HOSTILE = {
    "a score that is no number": {"scores": np.array([np.nan])},
    "no score": {"scores": np.zeros(0)},
    "scores of another kind": {"scores": np.array(["a"])},
    "an object": {"scores": np.array([{}], dtype=object)},
    "a limit that is none": {"allowed": np.array([np.inf, 0.01])},
    "one limit": {"allowed": np.array([0.1])},
    "a grey frame": {"frame_0": np.zeros((8, 8), np.uint8)},
    "a frame of floats": {"frame_0": np.zeros((8, 8, 3))},
    "a map that is no number": {"map_0": np.full((8, 8), np.nan, np.float32)},
    "arrays that fill the memory": {"frame_0": np.zeros((10_000, 10_000, 3), np.uint8)},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_proof_that_proves_nothing_is_refused(tmp_path: Path, name: str) -> None:
    sound: dict[str, Any] = {
        "scores": np.array([0.5]),
        "allowed": np.array([0.1, 0.01]),
        "frame_0": np.zeros((8, 8, 3), np.uint8),
        "map_0": np.zeros((8, 8), np.float32),
    }
    np.savez_compressed(tmp_path / PROOF, **sound)
    assert read_proof(tmp_path, sha256_of(tmp_path / PROOF)).scores == (0.5,)
    np.savez_compressed(tmp_path / PROOF, **{**sound, **HOSTILE[name]})
    with pytest.raises(ModelError, match=r"proof\.npz cannot be used"):
        read_proof(tmp_path, sha256_of(tmp_path / PROOF))


def test_frames_of_a_proof_are_small_and_come_back_as_they_were(
    bundle: Bundle, tmp_path: Path
) -> None:
    large = np.random.default_rng(3).integers(0, 256, (400, 300, 3), dtype=np.uint8)
    proof = make_proof([large] * 4, open_graphs(bundle, threads=1), None, "int8", bundle.model)
    assert [frame.shape for frame in proof.frames] == [(32, 24, 3)] * 3
    read = read_proof(tmp_path, write_proof(tmp_path, proof))
    assert read.scores == proof.scores
    assert (read.allowed_mask, read.allowed_score) == (proof.allowed_mask, proof.allowed_score)
    for mine, theirs in zip(read.frames + read.maps, proof.frames + proof.maps, strict=True):
        assert np.array_equal(mine, theirs)
    assert (tmp_path / PROOF).stat().st_size < 50_000


def test_results_name_what_was_passed_over(
    bundle: Bundle, tmp_path: Path, dark_frame: np.ndarray
) -> None:
    sidecar = flip_a_bit(bundle, accept(bundle, build(bundle, "fp32", CPU)))
    stream("demo://", lambda: bundle, out=tmp_path / "out", max_frames=1)
    header = json.loads((tmp_path / "out" / "results.jsonl").read_text().splitlines()[0])
    assert header["passed_over"][0].startswith(f"{sidecar.name}: scores differ by ")
    candidate = bundle_candidate(bundle, threads=1)
    assert candidate.passed_over[0].startswith(f"{sidecar.name}: scores differ by ")
    checks = examine(bundle.path).checks
    assert any(check.name == "engine" and sidecar.name in check.detail for check in checks)


def test_an_engine_for_another_machine_gets_its_proof_where_it_is_built(bundle: Bundle) -> None:
    proof = unseen_proof(bundle, "fp16", demo_images(bundle))
    sidecar = build(bundle, "fp16", CPU, proof=proof)
    assert sidecar.gate.passed is None
    proof = read_proof(bundle.path / ENGINES / sidecar.name, sidecar.proof_sha256 or "")
    with open_inspector(bundle, engine=sidecar.name, threads=1) as inspector:
        assert prove(inspector, proof).passed


def test_an_edited_ignore_mask_is_no_fault_of_the_machine(bundle: Bundle) -> None:
    sidecar = accept(bundle, build(bundle, "fp32", CPU))
    ignore = np.zeros((32, 32), bool)
    ignore[:, :20] = True
    write_ignore(bundle.path, ignore)
    edited = open_bundle(bundle.path)
    assert edited.ignore is not None
    with open_inspector(edited, engine=sidecar.name, threads=1) as inspector:
        assert inspector.ignore is not None
    assert choose_engine(edited).passed_over == ()
    verify(edited, sidecar.name, demo_images(edited))
    (bundle.path / "ignore.png").unlink()
    open_inspector(open_bundle(bundle.path), engine=sidecar.name, threads=1).close()
