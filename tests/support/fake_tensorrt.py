"""The runtime half of TensorRT on the fake device; a plan is an ONNX graph behind a magic word.

A pass fills the memory that it was given to compute in, when it runs, and that must still be there.
"""

from __future__ import annotations

import ctypes
import enum
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx
from device_engine import OnnxOnDevice
from fake_cuda import FakeDriver

from dad_edge.runtime.seams import Pass

MAGIC = b"fake plan "
PROFILES = ((1, 2, 2), (3, 4, 16))
"""Smallest, best and largest rows of every optimisation profile."""


SCRATCH_BYTES = 1000
"""Memory that a pass computes in, for every row."""


def make_plan(graph: Path, plan: Path) -> None:
    """A plan that does what an ONNX graph does."""
    plan.write_bytes(MAGIC + graph.read_bytes())


def make_tensorrt(driver: FakeDriver, version: str = "10.3.0", *, rtx: bool = False) -> ModuleType:
    """A module that stands for `tensorrt` or `tensorrt_rtx`; it runs on the driver's streams."""

    class TensorIOMode(enum.Enum):
        NONE, INPUT, OUTPUT = range(3)

    class DataType(enum.Enum):
        FLOAT, HALF, INT8 = range(3)

    class ExecutionContextAllocationStrategy(enum.Enum):
        STATIC, ON_PROFILE_CHANGE, USER_MANAGED = range(3)

    class DynamicShapesKernelSpecializationStrategy(enum.Enum):
        LAZY, EAGER, NONE = range(3)

    class ILogger:
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    class IExecutionContext:
        def __init__(self, engine: ICudaEngine) -> None:
            self.active_optimization_profile = 0
            self._engine = engine
            self._shape: tuple[int, ...] = ()
            self._addresses: dict[str, int] = {}
            self._run: Pass | None = None
            self._memory: tuple[int, int] | None = None
            self.passes = 0

        def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
            assert int(stream_handle) in driver.live["stream"]
            self.active_optimization_profile = profile_index
            return True

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            least, _, most = PROFILES[self.active_optimization_profile]
            self._shape = shape
            self._memory = None
            if not least <= shape[0] <= most:
                self._engine._logger.log(ILogger.ERROR, f"{name} has {shape[0]} rows. ")
            return least <= shape[0] <= most

        def set_tensor_address(self, name: str, memory: int) -> bool:
            self._addresses[name] = memory
            return name in self._engine._values

        def update_device_memory_size_for_shapes(self) -> int:
            if module.fails == "memory":  # type: ignore[attr-defined]
                self._engine._logger.log(ILogger.ERROR, "Shapes are not known. ")
                return 0
            return self._shape[0] * SCRATCH_BYTES

        def set_device_memory(self, memory: int, size: int) -> None:
            assert size >= self._shape[0] * SCRATCH_BYTES
            self._memory = (memory, size)

        def execute_async_v3(self, stream_handle: int) -> bool:
            if module.fails == "pass":  # type: ignore[attr-defined]
                self._engine._logger.log(ILogger.ERROR, "Cuda Runtime (out of\n memory). ")
                return False
            if self._run is None:
                source, target = self._engine._values
                addresses = self._addresses[source], self._addresses[target]
                self._run = self._engine._network.bind(self._shape[0], *addresses, stream_handle)
            assert self._memory is not None, "a context has no memory to compute in"
            address, size = self._memory

            def compute() -> None:
                assert driver._holds("device", address, size), "its memory is not there any more"
                ctypes.memset(address, 0xFF, size)

            driver.enqueue(driver.CUstream(stream_handle), compute)
            self._run.enqueue(0)
            self.passes += 1
            if rtx and (kernel := f"rows{self._shape[0]}") not in self._engine._cache.kernels:
                module.compiled.append(kernel)  # type: ignore[attr-defined]
                self._engine._cache.kernels.add(kernel)
            return True

    class ICudaEngine:
        def __init__(self, content: bytes, logger: Any) -> None:
            graph = onnx.load_from_string(content).graph
            self._logger = logger
            self._values = {v.name: v for v in (graph.input[0], graph.output[0])}
            channels = [self.get_tensor_shape(name)[1] for name in self._values]
            side = self.get_tensor_shape(graph.input[0].name)[2]
            names = tuple(self._values)
            self._network = OnnxOnDevice(driver, content, (*channels, side), names)  # type: ignore[arg-type]
            self.num_io_tensors = len(self._values)
            self.num_optimization_profiles = len(PROFILES)

        def get_tensor_name(self, index: int) -> str:
            return list(self._values)[index]

        def get_tensor_mode(self, name: str) -> TensorIOMode:
            return TensorIOMode.INPUT if name == next(iter(self._values)) else TensorIOMode.OUTPUT

        def get_tensor_dtype(self, name: str) -> DataType:
            return module.dtypes.get(name, DataType.FLOAT)  # type: ignore[attr-defined]

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            dims = self._values[name].type.tensor_type.shape.dim
            return (-1, *(d.dim_value for d in dims[1:]))

        def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
            sides = self.get_tensor_shape(name)[1:]
            return [(rows, *sides) for rows in PROFILES[profile_index]]

        def create_execution_context(self, settings: Any = None) -> IExecutionContext:
            strategy = settings.strategy if rtx else settings
            self._cache = settings.cache if rtx else None
            assert strategy is ExecutionContextAllocationStrategy.USER_MANAGED
            module.contexts.append(IExecutionContext(self))  # type: ignore[attr-defined]
            return module.contexts[-1]  # type: ignore[attr-defined]

    class IRuntimeConfig:
        dynamic_shapes_kernel_specialization_strategy: Any = None
        strategy: Any = ExecutionContextAllocationStrategy.STATIC

        cache: Any = None

        def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
            self.strategy = strategy

        def create_runtime_cache(self) -> IRuntimeCache:
            return IRuntimeCache()

        def set_runtime_cache(self, cache: IRuntimeCache) -> bool:
            self.cache = cache
            return True

    class IRuntimeCache:
        def __init__(self) -> None:
            self.kernels: set[str] = set()

        def deserialize(self, blob: bytes) -> bool:
            if not blob.startswith(version.encode()):
                return False
            self.kernels = set(blob.decode().split()[1:])
            return True

        def serialize(self) -> bytes:
            return " ".join([version, *sorted(self.kernels)]).encode()

    def is_stream_capturable(self: IExecutionContext, stream: int) -> bool:
        assert self.passes, "only a first pass shows it"
        return bool(module.capturable)  # type: ignore[attr-defined]

    if rtx:
        ICudaEngine.create_runtime_config = lambda self: IRuntimeConfig()  # type: ignore[attr-defined]
        IExecutionContext.is_stream_capturable = is_stream_capturable  # type: ignore[attr-defined]

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self._logger = logger
            self.engine_host_code_allowed = False
            module.runtimes.append(self)  # type: ignore[attr-defined]

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
            if module.warning:  # type: ignore[attr-defined]
                self._logger.log(ILogger.WARNING, module.warning)  # type: ignore[attr-defined]
            if not serialized_engine.startswith(MAGIC):
                self._logger.log(ILogger.ERROR, "Serialization assertion failed. Version tag 1. ")
                return None
            return ICudaEngine(serialized_engine[len(MAGIC) :], self._logger)

    name = "tensorrt_rtx" if rtx else "tensorrt"
    module = ModuleType(name)
    enums = (TensorIOMode, DataType, ExecutionContextAllocationStrategy)
    if rtx:
        enums = (*enums, DynamicShapesKernelSpecializationStrategy)
    classes = (*enums, ILogger, IExecutionContext, ICudaEngine, Runtime)
    vars(module).update({kind.__name__: kind for kind in classes})
    module.__spec__ = ModuleSpec(name, None)
    vars(module).update(__version__=version, fails="", dtypes={}, contexts=[], runtimes=[])
    vars(module).update(capturable=True, warning="", compiled=[])
    return module
