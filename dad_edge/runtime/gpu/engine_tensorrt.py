"""Engine on TensorRT 10.3 to 11.4 or TensorRT-RTX: one plan on given device memory.

A plan is opened once. Every number of rows gets an execution context of its own, with its shape and
its addresses set once, so that a pass is a single call that a CUDA graph can hold. Contexts have no
memory of their own to compute in: they get the one piece that all passes take turns in.

TensorRT-RTX compiles its kernels on the device. They are kept beside the plan, so that only the
first start takes that time; those of another GPU, driver or version it leaves out by itself.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from dad_edge.config import Precision, RuntimeName
from dad_edge.errors import DeviceError, ModelError, StorageError
from dad_edge.files import sha256_of, write_whole
from dad_edge.made import made_here, remember
from dad_edge.runtime.gpu.tensorrt_api import load_tensorrt, tensorrt_logger
from dad_edge.runtime.seams import Element, Pass

_NAMES: dict[RuntimeName, str] = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT-RTX"}
_REBUILD = "build the engine again on this device"


class TensorRtEngine:
    """One network as a TensorRT plan."""

    def __init__(
        self,
        runtime: RuntimeName,
        path: Path,
        precision: Precision,
        *,
        version_compatible: bool = False,
    ) -> None:
        """
        Args:
            runtime: `tensorrt` or `tensorrt-rtx`; the CUDA device must be current.
            path: the plan.
            precision: of the plan, for the name.
            version_compatible: the plan brings code of its own that runs on the host.

        Raises:
            MissingDependency: the runtime is not installed.
            ModelError: it refuses the plan, or the plan is not of this project.
        """
        trt = load_tensorrt(runtime)
        self._trt = trt
        self._rtx = runtime == "tensorrt-rtx"
        self._logger = tensorrt_logger(runtime)
        self.name = f"{_NAMES[runtime]} {trt.__version__} {precision}"
        opener = trt.Runtime(self._logger)
        if version_compatible:
            opener.engine_host_code_allowed = True
        self._logger.problems.clear()
        engine = opener.deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            raise ModelError(f"{self.name} refuses {path}: {self._reason()}.", _REBUILD)
        self._opener, self._engine = opener, engine
        self._source, self._target = self._tensors(path)
        kinds = {engine.get_tensor_dtype(name) for name in (self._source, self._target)}
        known: dict[Any, Element] = {trt.DataType.FLOAT: "f32", trt.DataType.HALF: "f16"}
        if len(kinds) != 1 or not kinds <= known.keys():
            raise ModelError(f"{path} has tensors of types {kinds}.", _REBUILD)
        self.element: Element = known[kinds.pop()]
        self._profiles = [
            tuple(int(shape[0]) for shape in engine.get_tensor_profile_shape(self._source, index))
            for index in range(engine.num_optimization_profiles)
        ]
        """Smallest, best and largest number of rows of every optimisation profile."""
        self.max_rows: int | None = max(most for _, _, most in self._profiles)
        self._kernel_file = path.with_suffix(".cache")
        self._settings = self._rtx_settings() if self._rtx else None

    def bind(self, rows: int, source: int, target: int, stream: int) -> Pass:
        context = self._context(rows, stream)
        sides = tuple(self._engine.get_tensor_shape(self._source))[1:]
        if not (
            context.set_input_shape(self._source, (rows, *sides))
            and context.set_tensor_address(self._source, source)
            and context.set_tensor_address(self._target, target)
        ):
            self._fail(f"does not take {rows} rows")
        scratch_bytes = int(context.update_device_memory_size_for_shapes())
        if not scratch_bytes and self._logger.problems:
            self._fail(f"does not say what memory {rows} rows need")

        def enqueue(scratch: int) -> None:
            if scratch_bytes:
                context.set_device_memory(scratch, scratch_bytes)
            if not context.execute_async_v3(stream):
                self._fail("failed")

        def settle() -> bool:
            if not self._rtx:
                return True
            self._keep_kernels()
            return bool(context.is_stream_capturable(stream))

        return Pass(enqueue, scratch_bytes, settle)

    def close(self) -> None:
        # The contexts are held by what `bind` returned; they keep the engine until they are gone.
        self._engine = self._opener = self._settings = None

    def _tensors(self, path: Path) -> tuple[str, str]:
        """Names of the input and the output."""
        engine, modes = self._engine, self._trt.TensorIOMode
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        sources = [name for name in names if engine.get_tensor_mode(name) == modes.INPUT]
        targets = [name for name in names if engine.get_tensor_mode(name) == modes.OUTPUT]
        if len(sources) != 1 or len(targets) != 1:
            raise ModelError(f"{path} has tensors {names}, not one in and one out.", _REBUILD)
        return sources[0], targets[0]

    def _context(self, rows: int, stream: int) -> Any:
        """A context under the profile that was tuned for the nearest number of rows."""
        fitting = [
            (abs(best - rows), index)
            for index, (least, best, most) in enumerate(self._profiles)
            if least <= rows <= most
        ]
        if not fitting:
            raise ModelError(
                f"{self.name} was built for {self._profiles} rows, not for {rows}.",
                "build the engine again with --frames for this number of frames",
            )
        self._logger.problems.clear()
        context = self._new_context()
        if context is None:
            self._fail("gives no execution context")
        _, profile = min(fitting)
        active = context.active_optimization_profile == profile
        if not active and not context.set_optimization_profile_async(profile, stream):
            self._fail(f"does not take profile {profile}")
        return context

    def _new_context(self) -> Any:
        user_managed = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        return self._engine.create_execution_context(self._settings or user_managed)

    def _rtx_settings(self) -> Any:
        """Settings of all contexts of TensorRT-RTX, with the kernels of earlier starts."""
        settings = self._engine.create_runtime_config()
        user_managed = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        settings.set_execution_context_allocation_strategy(user_managed)
        # By default it replaces its kernels while it runs; a CUDA graph would keep the first ones.
        specialization = self._trt.DynamicShapesKernelSpecializationStrategy
        settings.dynamic_shapes_kernel_specialization_strategy = specialization.EAGER
        self._kernels = settings.create_runtime_cache()
        with suppress(OSError):
            if sha256_of(self._kernel_file) in made_here():  # what others compiled is not run
                self._kernels.deserialize(self._kernel_file.read_bytes())
        settings.set_runtime_cache(self._kernels)
        return settings

    def _keep_kernels(self) -> None:
        content = bytes(self._kernels.serialize())
        # What cannot be kept costs time at the next start, not this one.
        with suppress(OSError, StorageError):
            if not self._kernel_file.is_file() or self._kernel_file.read_bytes() != content:
                write_whole(self._kernel_file, content)
                remember([self._kernel_file])

    def _fail(self, what: str) -> NoReturn:
        raise DeviceError(
            f"{self.name} {what}: {self._reason()}.",
            "if memory ran out, close other programs; else build the engine again on this device",
        )

    def _reason(self) -> str:
        problems = self._logger.problems
        return problems[-1] if problems else "it gave no reason"
