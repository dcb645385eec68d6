"""Chooses the engine of a bundle that inspects here: the fastest that proves itself."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from dataclasses import replace
from pathlib import Path

from dad_edge.bundle import ENGINES, Bundle, open_bundle
from dad_edge.errors import DadEdgeError, DeviceError, ModelError
from dad_edge.runtime.engines import (
    CPU_RUNTIMES,
    EngineChoice,
    check_engine,
    engines_here,
    with_thresholds,
)
from dad_edge.runtime.inspection import Inspector
from dad_edge.runtime.opening import open_choice
from dad_edge.runtime.proof import Outcome, as_fp32, prove, read_proof, remember, remembered
from dad_edge.runtime.sidecar import Sidecar, judge_command

LOG = logging.getLogger(__name__)

WORTH_IT = 0.9
"""An engine takes the place of the FP32 graphs if it needs less than this share of their time."""


def open_inspector(
    bundle: Bundle | Path | str,
    *,
    engine: str | None = None,
    seed: int = 0,
    fresh_noise: bool = False,
    threads: int | None = None,
    pictures: bool = True,
    stage_times: bool = True,
) -> Inspector:
    """An inspector for a bundle, on the fastest engine that proves itself on this machine.

    It judges by the thresholds that hold for that engine.

    Args:
        bundle: the bundle's folder, or a bundle that is open already.
        engine: name of a built engine; the one that `choose_engine` takes if None.
        seed: key of the noise.
        fresh_noise: new noise for every frame; by default the same part always gets the same score.
        threads: threads that compute on a CPU; all usable cores if None.
        pictures: whether inspections have `image` and `restored`; on a GPU, leaving them out saves
            most of what comes back from it.
        stage_times: whether inspections have `stage_ms`; on a GPU, leaving them out saves the
            events between the stages.

    Raises:
        DataError: the bundle's ignore mask cannot be used.
        ModelError: the folder is no bundle, or its engine does not fit or was rejected.
        DeviceError: the engine cannot run here, computes wrongly here, or the GPU failed.

    Example:
        >>> with open_inspector("bundle") as inspector:
        ...     print(inspector.inspect(read_frame("part.png")).verdict)
        good
    """
    if not isinstance(bundle, Bundle):
        bundle = open_bundle(Path(bundle))
    choice = choose_engine(bundle, engine)
    return open_choice(
        choice,
        seed=seed,
        fresh_noise=fresh_noise,
        threads=threads,
        pictures=pictures,
        stage_times=stage_times,
    )


def choose_engine(bundle: Bundle, name: str | None = None) -> EngineChoice:
    """The engine of a bundle that inspects here, with its thresholds and its check of the scene.

    Args:
        bundle: a checked bundle.
        name: name of a built engine. If None, the fastest of the engines that the accuracy gate
            accepted and that prove themselves on this machine: one for its GPU if there is one,
            else one for its CPU, or the FP32 graphs where no engine is clearly faster.

    Raises:
        ModelError: the engine does not fit, or the accuracy gate rejected it.
        DeviceError: the engine cannot run here, or nothing on this machine gives the right results.
    """
    return engines_in_order(bundle)[0] if name is None else _with_scene(_named(bundle, name))


def engines_in_order(bundle: Bundle, name: str | None = None) -> list[EngineChoice]:
    """All that can inspect here with a bundle, each with its thresholds and its check of the scene.

    Args:
        bundle: a checked bundle.
        name: of the engine that comes first; that of `choose_engine` if None.

    Returns:
        The engine that is to be taken, then those that may stand in for it, the fastest first:
        engines that the accuracy gate accepted and that proved themselves on this machine, and the
        FP32 graphs.

    Raises:
        ModelError: the engine that was named does not fit, or the accuracy gate rejected it.
        DeviceError: it cannot run here, or nothing on this machine gives the right results.
    """
    choices = [_with_scene(choice) for choice in _ranked(bundle)]
    if name is None:
        return choices
    named = _with_scene(_named(bundle, name))
    return [named, *(choice for choice in choices if choice.name != name)]


def _with_scene(choice: EngineChoice) -> EngineChoice:
    thresholds = choice.bundle.thresholds
    return replace(choice, scene=thresholds.scene if thresholds else None)


def choose_to_judge(bundle: Bundle, name: str) -> EngineChoice:
    """An engine that fits, to be judged again whatever the accuracy gate said of it.

    It gives every frame its score and checks no scene.

    Raises:
        ModelError: the engine does not fit.
        DeviceError: the engine cannot run here.
    """
    return with_thresholds(bundle, check_engine(bundle, name))


def _named(bundle: Bundle, name: str) -> EngineChoice:
    choice = choose_to_judge(bundle, name)
    sidecar = choice.sidecar
    assert sidecar is not None, "an engine was named"
    judge = judge_command(name)
    if sidecar.gate.passed is False:
        raise ModelError(
            f"engine '{name}' was rejected by the accuracy gate: {sidecar.gate.reason}.",
            f"build another precision, or judge it on your images with '{judge}'",
        )
    if sidecar.proof_sha256 is None:
        LOG.warning("engine '%s' has no proof to check it by on this machine; '%s' makes one.",
                    name, judge)  # fmt: skip
        return choice
    outcome = _proved(choice, sidecar.proof_sha256)
    if not outcome.passed:
        raise DeviceError(
            f"engine '{name}' computes wrongly on this machine: {outcome.reason}.",
            "leave --engine out, build it again here, and run 'dad-edge doctor'",
        )
    return choice


def _ranked(bundle: Bundle) -> list[EngineChoice]:
    """The engine that `choose_engine` takes, then the others that are right here."""
    passed_over: list[str] = []
    right: list[tuple[float, EngineChoice]] = []
    graphs = with_thresholds(bundle, None)
    proven_on_cpu: Sidecar | None = None
    for sidecar in engines_here(bundle):
        choice = with_thresholds(bundle, sidecar)
        reason = _why_not_by_itself(sidecar)
        try:
            if reason is None:
                outcome = _proved(choice, sidecar.proof_sha256 or "")
                reason = outcome.reason
                if sidecar.runtime in CPU_RUNTIMES:
                    proven_on_cpu = sidecar
        except DadEdgeError as error:
            reason = error.message.rstrip(".")
        if reason is None:
            right.append((outcome.frame_ms, choice))
        else:
            passed_over.append(f"{sidecar.name}: {reason}")
            LOG.warning("engine '%s' is not used: %s.", sidecar.name, reason)
    right.sort(key=lambda entry: entry[0])
    ranked = [choice for _, choice in right]
    fastest_ms = right[0][0] if right else float("inf")
    if proven_on_cpu is not None and fastest_ms > WORTH_IT * _graphs_ms(graphs, proven_on_cpu):
        ranked.insert(0, graphs)
    else:
        ranked.append(graphs)
    return [replace(choice, passed_over=tuple(passed_over)) for choice in ranked]


def _why_not_by_itself(sidecar: Sidecar) -> str | None:
    """Why an engine that fits is taken only where it is named; None if it may be taken unnamed."""
    judge = f"'{judge_command(sidecar.name)}'"
    if sidecar.gate.passed is None:
        return f"the accuracy gate has not judged it; {judge} does"
    if sidecar.proof_sha256 is None:
        return f"it has no proof to check it by on this machine; {judge} makes one"
    return None


def _graphs_ms(graphs: EngineChoice, sidecar: Sidecar) -> float:
    """Milliseconds of a frame in the FP32 graphs, by the proof of an engine.

    Raises:
        DeviceError: the FP32 graphs give other results here than where the proof was made.
    """
    folder = graphs.bundle.path / ENGINES / sidecar.name
    proof_sha256 = sidecar.proof_sha256 or ""
    outcome = _proved(graphs, proof_sha256, folder)
    if not outcome.passed:
        raise DeviceError(
            f"the FP32 graphs compute wrongly on this machine: {outcome.reason}.",
            "run 'dad-edge doctor'; install the version of ONNX Runtime that made the bundle",
        )
    return outcome.frame_ms


def _proved(choice: EngineChoice, proof_sha256: str, folder: Path | None = None) -> Outcome:
    """The outcome of a proof on this machine, now or earlier.

    Args:
        choice: the choice that has to prove itself.
        proof_sha256: digest of the proof.
        folder: folder of the engine whose proof it is; that of the choice if None.
    """
    digest = _digest(choice)
    if (earlier := remembered(digest, proof_sha256)) is not None:
        return earlier
    sidecar = choice.sidecar
    folder = folder or choice.bundle.path / ENGINES / str(choice.name)
    proof = read_proof(folder, proof_sha256)
    on_cpu = sidecar is None or sidecar.runtime in CPU_RUNTIMES
    clock = time.process_time if on_cpu else time.perf_counter
    # A proof is made and passed without the ignore mask, which the operator may edit at any time.
    bare = replace(choice, bundle=replace(choice.bundle, ignore=None))
    # One thread: several would wait for each other, some of them spinning, which counts as time.
    with open_choice(bare, threads=1) as inspector:
        outcome = prove(inspector, as_fp32(proof) if sidecar is None else proof, clock)
    remember(digest, proof_sha256, outcome)
    return outcome


def _digest(choice: EngineChoice) -> str:
    """One digest for everything that a choice computes with."""
    bundle, sidecar = choice.bundle, choice.sidecar
    parts: list[object] = [bundle.onnx_digests]
    if sidecar is not None:
        files = {graph: file.sha256 for graph, file in sidecar.files.items()}
        parts += [sidecar.name, files, sidecar.kernels]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
