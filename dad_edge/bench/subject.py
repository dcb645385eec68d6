"""A case, opened: what is called again and again while it is measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from typing import Any

import cv2

from dad_edge.bench.case import Case, lambdas_of
from dad_edge.bench.cost import Costs, bundle_cost, model_cost
from dad_edge.bench.measure import Call
from dad_edge.bench.untrained import untrained_bundle, untrained_detector, writable_copy
from dad_edge.bundle import Bundle
from dad_edge.config import Precision, RuntimeName
from dad_edge.deploy.build import build, find_target
from dad_edge.errors import DeviceError, ModelError, UsageError, require
from dad_edge.image.pictures import Picture
from dad_edge.machine.environment import usable_cores
from dad_edge.runtime.engines import check_engine
from dad_edge.runtime.inspection import Inspector
from dad_edge.runtime.inspector import choose_engine
from dad_edge.runtime.opening import open_choice, open_graphs
from dad_edge.runtime.sidecar import list_engines

RUNTIMES: dict[str, RuntimeName] = {
    "ONNX Runtime": "onnxruntime",
    "OpenVINO": "openvino",
    "TensorRT": "tensorrt",
    "TensorRT-RTX": "tensorrt-rtx",
}
"""Engine of a case → runtime of a bundle's engine."""


@dataclass(frozen=True, slots=True)
class Subject(AbstractContextManager["Subject"]):
    """What is measured; leaving its context ends its threads."""

    call: Call
    """Inspects the n-th batch of frames."""
    networks: Callable[[], object] | None
    """Both networks on tensors on the device; None where the stages give their time."""
    backend: str
    threads: int
    setup_s: float
    costs: Costs
    """Of one call."""
    _open: ExitStack

    def __exit__(self, *error: object) -> None:
        self._open.close()


def open_case(case: Case, frames: Sequence[Picture]) -> Subject:
    """Make a case ready to run.

    Args:
        case: what to measure.
        frames: (H,W,3) uint8 BGR, inspected in turn.

    Raises:
        DadEdgeError: it cannot run here; the message is the reason.
    """
    check_here(case)
    started = time.perf_counter()
    threads = max(1, usable_cores() // case.cameras)
    opener = _prepare(case, threads)
    with ExitStack() as opening:
        if case.cameras == 1 or case.device == "cuda":
            inspectors = [opening.enter_context(opener())]
            call = _batches(inspectors[0], frames, case)
            if case.cameras > 1:
                call = _in_turn(call, case.cameras)
        else:
            inspectors = [opening.enter_context(opener()) for _ in range(case.cameras)]
            pool = opening.enter_context(ThreadPoolExecutor(case.cameras))
            call = _at_once([_batches(one, frames, case) for one in inspectors], pool)
        return Subject(
            call=call,
            networks=_resident_networks(case) if case.device == "cuda" else None,
            backend=inspectors[0].backend,
            threads=threads,
            setup_s=time.perf_counter() - started,
            costs=case_cost(case),
            _open=opening.pop_all(),
        )


def _in_turn(call: Call, cameras: int) -> Call:
    """One frame of every camera, one after the other: a GPU's inspector belongs to one thread."""

    def turn(index: int) -> dict[str, float]:
        for camera in range(cameras):
            call(index * cameras + camera)
        return {}

    return turn


def _at_once(calls: Sequence[Call], pool: ThreadPoolExecutor) -> Call:
    """One frame of every camera at the same time, each on its own inspector."""

    def together(index: int) -> dict[str, float]:
        for future in [pool.submit(call, index) for call in calls]:
            future.result()
        return {}

    return together


def check_here(case: Case) -> None:
    """Whether this machine has what a case needs.

    Raises:
        DadEdgeError: it has not; the message is the reason.
    """
    if case.engine.startswith("PyTorch"):
        torch = require("torch", "train", "run networks in PyTorch")
        if case.device == "cuda" and not torch.cuda.is_available():
            raise DeviceError("PyTorch finds no CUDA device.", "run 'dad-edge doctor'")
    elif case.bundle is not None and case.built is not None:
        check_engine(case.bundle, case.built)
    else:
        find_target(RUNTIMES[case.engine])


def case_cost(case: Case) -> Costs:
    """Cost of one call of a case; empty where nothing here can count it."""
    rows, columns = case.model.framing.tiles
    views = case.batch * case.cameras * rows * columns
    if case.bundle is not None:
        return bundle_cost(case.bundle, views)
    return model_cost(case.model, views)


def _batches(inspector: Inspector, frames: Sequence[Picture], case: Case) -> Call:
    count, batch = len(frames), case.batch
    files = [cv2.imencode(".jpg", frame)[1] for frame in frames] if case.decode else []

    def call(index: int) -> dict[str, float]:
        places = [(index * batch + offset) % count for offset in range(batch)]
        if not case.decode:
            return inspector.inspect_batch([frames[place] for place in places])[0].stage_ms
        start = time.perf_counter()
        decoded = [cv2.imdecode(files[place], cv2.IMREAD_COLOR) for place in places]
        decode_ms = (time.perf_counter() - start) * 1e3
        inspections = inspector.inspect_batch(decoded)
        return {"decode": decode_ms} | inspections[0].stage_ms

    return call


def _prepare(case: Case, threads: int) -> Callable[[], Inspector]:
    """Make what a case needs, such as its engine, and return a function that opens an inspector."""
    if case.engine.startswith("PyTorch"):
        return lambda: _torch_inspector(case)
    bundle = case.bundle or untrained_bundle(case.model)
    if case.built is not None:
        built = case.built
        return lambda: _open_engine(bundle, built, threads)
    if case.engine == "ONNX Runtime" and case.precision == "fp32":
        return lambda: open_graphs(bundle, threads=threads)
    place, name = built_engine(bundle, case)
    return lambda: _open_engine(place, name, threads)


def _open_engine(bundle: Bundle, name: str, threads: int) -> Inspector:
    """An engine as the line opens it but for the scene, which no engine has a part in."""
    choice = replace(choose_engine(bundle, name), scene=None)
    return open_choice(choice, threads=threads, pictures=False)


def built_engine(bundle: Bundle, case: Case) -> tuple[Bundle, str]:
    """An engine of a case's runtime and precision, built in a temporary copy where there is none.

    Returns:
        The bundle that holds it, and its name.

    Raises:
        DadEdgeError: it cannot be built here.
    """
    runtime = RUNTIMES[case.engine]
    if case.precision not in ("fp32", "fp16", "int8"):
        raise UsageError(f"{case.engine} has no {case.precision}.", "choose fp32, fp16 or int8")
    precision: Precision = case.precision
    target = find_target(runtime)
    for place in (bundle, copy := writable_copy(bundle)):
        for name in list_engines(place):
            try:
                sidecar = check_engine(place, name)
            except (DeviceError, ModelError):
                continue  # it is of another device or version: one that fits is built instead
            if (sidecar.runtime, sidecar.precision) == (runtime, precision):
                return place, name
    return copy, build(copy, precision, target).name


def _torch_inspector(case: Case) -> Inspector:
    torch = require("torch", "train", "run networks in PyTorch")
    from dad_edge.runtime.cpu.engine_torch import torch_inspector

    detector = untrained_detector(case.model)
    if case.engine == "PyTorch CUDA graph":
        from dad_edge.runtime.gpu.engine_torch import TorchPrecision, fused_torch_inspector

        if case.precision not in ("fp32", "fp16", "bf16"):
            raise UsageError(f"{case.engine} has no {case.precision}.", "choose fp32, fp16 or bf16")
        precision: TorchPrecision = case.precision
        return fused_torch_inspector(detector, precision=precision, pictures=False)  # type: ignore[arg-type]
    denoise, score = _networks(torch, detector, case)
    detector.denoise, detector.score = denoise, score  # type: ignore[method-assign]
    return torch_inspector(detector, device=case.device)


def _networks(torch: Any, detector: Any, case: Case) -> tuple[Any, Any]:
    """Both networks in the case's precision, FP32 in and out."""
    kind = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(case.precision, torch.float32)
    if kind != torch.float32:
        detector.to(case.device, kind, memory_format=torch.channels_last)
    detector.to(case.device)

    def lowered(network: Any) -> Any:
        if case.engine == "PyTorch compile":
            network = torch.compile(network, mode="max-autotune")
        with_tf32 = case.precision == "tf32"

        def forward(value: Any) -> Any:
            if not with_tf32:
                return network(value.to(kind)).float()
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=True):
                return network(value)

        return forward

    return lowered(detector.denoise), lowered(detector.score)


def _resident_networks(case: Case) -> Callable[[], object] | None:
    """Both networks on tensors that stay on the device, for the time without copies."""
    if case.engine not in ("PyTorch eager", "PyTorch compile"):
        return None
    torch = require("torch", "train", "run networks in PyTorch")
    detector = untrained_detector(case.model)
    denoise, score = _networks(torch, detector, case)
    side, batch = case.model.image_size, case.batch
    levels = len(lambdas_of(case.model)) or 1
    masks = 1 if case.model.fusion == "norm_guided" else levels
    x_t = torch.rand(levels * batch, 3, side, side, device=case.device)
    pair = torch.rand(masks * batch, 6, side, side, device=case.device)

    def run() -> None:
        with torch.inference_mode():
            denoise(x_t)
            score(pair)
        if case.device == "cuda":
            torch.cuda.synchronize()

    return run
