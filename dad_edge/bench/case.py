"""What one row of a study measures, before it is measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from dad_edge.bench.result import Configuration
from dad_edge.bundle import Bundle
from dad_edge.config import RECIPES, Fusion, Method, ModelConfig, SizeName

EngineName = Literal[
    "PyTorch eager",
    "PyTorch compile",
    "PyTorch CUDA graph",
    "ONNX Runtime",
    "OpenVINO",
    "TensorRT",
    "TensorRT-RTX",
]
CasePrecision = Literal["fp32", "tf32", "fp16", "bf16", "int8"]
Device = Literal["cpu", "cuda"]
UNTRAINED = "untrained: for speed only"


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One configuration."""

    model: ModelConfig
    engine: EngineName
    precision: CasePrecision = "fp32"
    device: Device = "cpu"
    batch: int = 1
    """Frames inspected together."""
    cameras: int = 1
    """Sources; on a CPU each has an inspector of its own, on a GPU they take turns on one."""
    decode: bool = False
    """Whether the frame begins as a JPEG file in memory and not as pixels."""
    bundle: Bundle | None = None
    """The bundle whose graphs are run; None for untrained networks."""
    built: str | None = None
    """Name of an engine of the bundle."""

    @property
    def weights(self) -> str:
        """Where the weights come from; PyTorch rows have a bundle's sizes, not its weights."""
        if self.bundle is None or self.engine.startswith("PyTorch"):
            return UNTRAINED
        return self.bundle.path.resolve().name

    @property
    def name(self) -> str:
        """The case in words; equal cases have equal names."""
        model = self.model
        parts = [
            f"{method_of(model)} {model.size} {model.image_size} px",
            f"λ {', '.join(map(str, lambdas_of(model))) or '–'}",
            f"{self.engine} {self.device} {self.precision}",
        ]
        if self.batch > 1:
            parts.append(f"batch {self.batch}")
        if self.cameras > 1:
            parts.append(f"{self.cameras} cameras")
        if self.decode:
            parts.append("from JPEG")
        return ", ".join(parts)

    def configuration(self, studies: tuple[str, ...] = ()) -> Configuration:
        """The case in plain values, with the studies that show it."""
        return Configuration(
            name=self.name,
            method=method_of(self.model),
            lambdas=lambdas_of(self.model),
            size=self.model.size,
            image_size=self.model.image_size,
            batch=self.batch,
            cameras=self.cameras,
            decode=self.decode,
            precision=self.precision,
            engine=self.engine,
            device=self.device,
            weights=self.weights,
            studies=studies,
        )


def method_of(model: ModelConfig) -> str:
    """The method's name in the paper's tables."""
    return "norm-guided" if model.fusion == "norm_guided" else model.method


def lambdas_of(model: ModelConfig) -> tuple[int, ...]:
    """Time steps of the inference; none where the method puts no noise on the image."""
    return () if model.method in ("SegmentationAD", "DRAEM+") else model.lambdas


def recipe_model(
    size: SizeName,
    *,
    method: Method = "DiffusionAD",
    lambdas: tuple[int, ...] = (100, 200),
    fusion: Fusion = "average",
) -> ModelConfig:
    """The model of a size, as a row of the paper's tables."""
    return replace(RECIPES[size].model, method=method, lambdas=lambdas, fusion=fusion)
