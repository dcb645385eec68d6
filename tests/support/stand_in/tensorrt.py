"""A stand-in for TensorRT's builder: same names, and a plan that says how it was configured.

`STAND_IN` in the environment chooses what the builder does: `kill`, `crash`, `fail`, `wait`,
`stick` (deaf to the monitor), or a `big` plan.
"""

from __future__ import annotations

import enum
import json
import os
import signal
import time
from types import SimpleNamespace
from typing import Any

import onnx

__version__ = "10.3.0"


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 1


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class BuilderFlag(enum.Enum):
    VERSION_COMPATIBLE = 0
    TF32 = 1


class ProfilingVerbosity(enum.Enum):
    LAYER_NAMES_ONLY = 0
    DETAILED = 2


class HardwareCompatibilityLevel(enum.Enum):
    NONE = 0
    AMPERE_PLUS = 1


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class IProgressMonitor:
    pass


LAYERS = """Layers:
Name: conv, LayerType: correlation, Inputs: [ { Name: a, Dimensions: [-1,8,10,10], Strides: [], \
Datatype: Half, Format: (NHWC) Channel major format }], Constants: [ { Name: w, Dimensions: [8,8], \
Datatype: Half, Format: (Linear) }], Outputs: [ { Name: b, Dimensions: [-1,8,10,10], \
Datatype: Float, Format: (Linear) }], TacticName: t, StreamId: 0, Metadata: [ONNX Layer: conv]
Name: shape, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [], TacticName:
"""


class TimingCache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return self.content + b"+"


class Config:
    def __init__(self) -> None:
        self.told: dict[str, Any] = {"profiles": [], "flags": ["TF32"]}
        self.progress_monitor: Any = None
        self.builder_optimization_level = 3
        self.profiling_verbosity = ProfilingVerbosity.LAYER_NAMES_ONLY
        self.hardware_compatibility_level = HardwareCompatibilityLevel.NONE

    def add_optimization_profile(self, profile: Any) -> None:
        self.told["profiles"].append([shape[0] for shape in profile.shapes])

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        self.told[pool.name] = size

    def set_flag(self, flag: BuilderFlag) -> None:
        self.told["flags"].append(flag.name)

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.told["flags"].remove(flag.name)

    def create_timing_cache(self, content: bytes) -> TimingCache | None:
        return None if content == b"of another version" else TimingCache(content)

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        self.cache = cache
        self.told["cache"] = cache.content.decode()
        return cache.content != b"of another device"

    def get_timing_cache(self) -> TimingCache:
        return self.cache


class Profile:
    def set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
        self.shapes = shapes


class Builder:
    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def create_network(self, flags: int) -> SimpleNamespace:
        return SimpleNamespace(flags=flags)

    def create_builder_config(self) -> Config:
        return Config()

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Any, config: Config) -> bytes | None:
        monitor, does = config.progress_monitor, os.environ.get("STAND_IN")
        monitor.phase_start("Building engine", None, 2)
        self.logger.log(ILogger.INFO, "started")
        if does == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if does == "crash":
            os.abort()
        if does == "stick":
            time.sleep(60)
        if does == "fail":
            self.logger.log(ILogger.ERROR, "Tactic needs more memory.")
            return None
        while monitor.step_complete("Building engine", 0):
            if does != "wait":
                monitor.step_complete("Building engine", 1)
                monitor.phase_finish("Building engine")
                if config.profiling_verbosity is ProfilingVerbosity.DETAILED:
                    self.logger.log(ILogger.VERBOSE, LAYERS)
                config.told["level"] = config.builder_optimization_level
                config.told["hardware"] = config.hardware_compatibility_level.name
                return json.dumps(config.told).encode() + b" " * (does == "big") * (1 << 20)
            time.sleep(0.01)
        return None


class OnnxParser:
    num_errors = 0

    def __init__(self, network: Any, logger: Any) -> None:
        self.network = network

    def parse(self, content: bytes) -> bool:
        value = onnx.load_from_string(content).graph.input[0]
        shape = [d.dim_value or -1 for d in value.type.tensor_type.shape.dim]
        source = SimpleNamespace(name=value.name, shape=shape)
        self.network.get_input = lambda index: source
        return True
