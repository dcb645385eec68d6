"""The rows of every study, for the devices that are here."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dad_edge.bench.case import Case, CasePrecision, Device, EngineName, recipe_model
from dad_edge.bench.names import StudyName
from dad_edge.bundle import Bundle
from dad_edge.config import Method, ModelConfig, SizeName
from dad_edge.machine.gpu import describe_nvidia
from dad_edge.runtime.sidecar import list_engines, read_sidecar

STUDIES: tuple[StudyName, ...] = ("main", "table3", "table4", "precision", "scaling")
"""Studies in the order in which `all` runs them."""
METHODS: tuple[Method, ...] = ("SegmentationAD", "DRAEM+", "DenoisingAD", "DiffusionAD")
GUIDED = (200, 400)
"""Time steps of the journal version."""
CPU_ENGINES: tuple[EngineName, ...] = ("ONNX Runtime", "OpenVINO")
TORCH_FAST: tuple[EngineName, ...] = ("PyTorch compile", "PyTorch CUDA graph")
"""Faster modes of PyTorch than eager; the second has all of a frame's steps in its graph."""
GPU_ENGINES: tuple[EngineName, ...] = ("TensorRT", "TensorRT-RTX")
_NAMES: dict[str, EngineName] = {
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "tensorrt": "TensorRT",
    "tensorrt-rtx": "TensorRT-RTX",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """A case and the studies that show it."""

    case: Case
    studies: tuple[StudyName, ...]


def plan_rows(
    study: StudyName, bundle: Bundle, *, engine: str | None = None, device: Device | None = None
) -> list[Planned]:
    """The rows of a study, each case once.

    Args:
        study: one, or `all`.
        bundle: the user's.
        engine: name of a built engine, which alone is measured.
        device: where PyTorch rows run; the GPU, if there is one, where None.
    """
    if engine is not None:
        return [Planned(case=_built(bundle, engine), studies=("main",))]
    device = device or ("cuda" if describe_nvidia()["gpus"] else "cpu")
    makers = {
        "main": _main,
        "table3": _table3,
        "table4": _table4,
        "precision": _precision,
        "scaling": _scaling,
    }
    chosen = STUDIES if study == "all" else (study,)
    planned: dict[str, Planned] = {}
    for name in chosen:
        for case in makers[name](bundle, device):
            before = planned.get(case.name)
            studies = (*before.studies, name) if before else (name,)
            planned_case = before.case if before else case
            planned[case.name] = Planned(case=planned_case, studies=tuple(dict.fromkeys(studies)))
    return list(planned.values())


def deployed(bundle_or_model: Bundle | ModelConfig, device: Device) -> Case:
    """How a bundle's graphs, or an untrained model, are deployed on this device.

    On a CPU that is ONNX Runtime in FP32, as `open_inspector` does where no engine was built.
    """
    bundle = bundle_or_model if isinstance(bundle_or_model, Bundle) else None
    model = bundle.model if bundle else bundle_or_model
    assert isinstance(model, ModelConfig)
    if device == "cuda":
        installed = {
            name: importlib.util.find_spec(name) is not None
            for name in ("tensorrt", "tensorrt_rtx")
        }
        only_rtx = installed["tensorrt_rtx"] and not installed["tensorrt"]
        engine: EngineName = "TensorRT-RTX" if only_rtx else "TensorRT"
        return Case(model=model, bundle=bundle, engine=engine, precision="fp16", device="cuda")
    return Case(model=model, bundle=bundle, engine="ONNX Runtime")


def _built(bundle: Bundle, name: str) -> Case:
    sidecar = read_sidecar(bundle, name)
    device: Device = "cuda" if sidecar.runtime.startswith("tensorrt") else "cpu"
    return Case(
        model=bundle.model,
        bundle=bundle,
        engine=_NAMES[sidecar.runtime],
        precision=sidecar.precision,
        device=device,
        built=name,
    )


def _engines(bundle: Bundle, precision: CasePrecision) -> Iterator[Case]:
    """A bundle on every runtime, including those that cannot run here."""
    for engine in CPU_ENGINES:
        yield Case(model=bundle.model, bundle=bundle, engine=engine, precision=precision)
    lower: CasePrecision = "int8" if precision == "int8" else "fp16"
    for engine in GPU_ENGINES:
        yield Case(model=bundle.model, bundle=bundle, engine=engine, precision=lower, device="cuda")


def _torch(
    model: ModelConfig,
    device: Device,
    precision: CasePrecision = "fp32",
    *,
    bundle: Bundle | None = None,
    engine: EngineName = "PyTorch eager",
) -> Case:
    if device == "cuda" and precision == "fp32":
        precision = "tf32"  # PyTorch's default for convolutions
    return Case(model=model, bundle=bundle, engine=engine, precision=precision, device=device)


def _main(bundle: Bundle, device: Device) -> Iterator[Case]:
    yield _torch(bundle.model, device, bundle=bundle)
    yield from _engines(bundle, "fp32")
    built = [_built(bundle, name) for name in list_engines(bundle)]
    yield from (case for case in built if case.precision != "fp32")
    yield replace(deployed(bundle, device), decode=True)
    for size in _other_sizes(bundle):
        yield deployed(recipe_model(size), device)


def _table3(bundle: Bundle, device: Device) -> Iterator[Case]:
    for size in ("paper", bundle.model.size):
        for method in METHODS:
            yield _torch(recipe_model(size, method=method), device)


def _table4(bundle: Bundle, device: Device) -> Iterator[Case]:
    rows: Sequence[tuple[int, ...]] = ((100,), (200,), (100, 200))
    for size in ("paper", bundle.model.size):
        models = [recipe_model(size, lambdas=lambdas) for lambdas in rows]
        models.append(recipe_model(size, lambdas=GUIDED, fusion="norm_guided"))
        yield from (_torch(model, device) for model in models)
        if size != "paper" or device == "cuda":
            subjects = [bundle if model == bundle.model else model for model in models]
            yield from (deployed(subject, device) for subject in subjects)


def _precision(bundle: Bundle, device: Device) -> Iterator[Case]:
    yield _torch(bundle.model, device, bundle=bundle)
    if device == "cpu":
        yield _torch(bundle.model, device, "bf16", bundle=bundle)
    lower: tuple[CasePrecision, ...] = ("fp16", "bf16")
    for precision in lower:
        yield _torch(bundle.model, "cuda", precision, bundle=bundle)
    for engine in TORCH_FAST:
        yield _torch(bundle.model, "cuda", "fp16", bundle=bundle, engine=engine)
    yield from _engines(bundle, "fp32")
    yield from _engines(bundle, "int8")
    for size in _other_sizes(bundle):
        model = recipe_model(size)
        yield _torch(model, device)
        if device == "cuda":
            yield _torch(model, device, "fp16")
            for engine in TORCH_FAST:
                yield _torch(model, device, "fp16", engine=engine)
        yield deployed(model, device)
        if device == "cpu":
            yield Case(model=model, engine="OpenVINO")


def _other_sizes(bundle: Bundle) -> list[SizeName]:
    sizes: tuple[SizeName, ...] = ("nano", "edge", "paper")
    return [size for size in sizes if size != bundle.model.size]


def sweeps(bundle: Bundle, device: Device) -> dict[str, list[tuple[float, Case]]]:
    """What the scaling study varies → the places on its axis and their cases.

    Image sizes are counted in pixels of the model's input. Networks that are not the bundle's own
    are run untrained.
    """
    own, model = deployed(bundle, device), bundle.model
    lambdas = ((100,), (100, 200), (100, 200, 300), (100, 200, 300, 400))
    average = replace(model, fusion="average")
    sides = [side for side in (model.image_size * n // 2 for n in (1, 2, 3, 4)) if side % 32 == 0]
    return {
        "image size": [
            (float(side**2), _own_or(own, replace(model, image_size=side))) for side in sides
        ],
        "batch": [(float(n), replace(own, batch=n)) for n in (1, 2, 4, 8)],
        "lambdas": [
            (float(len(steps)), _own_or(own, replace(average, lambdas=steps))) for steps in lambdas
        ],
        "cameras": [(float(n), replace(own, cameras=n)) for n in (1, 2, 4)],
    }


def _own_or(own: Case, model: ModelConfig) -> Case:
    """The bundle's own case where the model is its own, else the same untrained."""
    return own if own.model == model else replace(own, model=model, bundle=None)


def _scaling(bundle: Bundle, device: Device) -> Iterator[Case]:
    for places in sweeps(bundle, device).values():
        yield from (case for _, case in places)
