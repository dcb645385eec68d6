"""An engine beside ONNX Runtime in FP32, layer by layer, through Polygraphy on its own runtime.

The outputs of all convolutions are marked in both graphs, which keeps a runtime from fusing across
them. So the errors are those of the arithmetic of each layer, and the engine as it was built may
differ from them by what its fusions round.

The graph of the engine and what it is given are written out too, for Polygraphy's command line.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dad_edge.bundle import DENOISER, SEGMENTER, Bundle
from dad_edge.errors import DeviceError, UsageError, require
from dad_edge.files import write_json, write_whole
from dad_edge.gate.layer_errors import (
    LayerError,
    Tensors,
    errors_of,
    layers_of,
    network_inputs,
    with_outputs,
    worst_first,
)
from dad_edge.graphs.engine import engine_graph
from dad_edge.graphs.polygraphy import for_polygraphy, run_command
from dad_edge.graphs.quantize import load_graph
from dad_edge.runtime.engines import CPU_RUNTIMES
from dad_edge.runtime.opening import open_graph
from dad_edge.runtime.seams import Engine
from dad_edge.runtime.sidecar import Sidecar

if TYPE_CHECKING:
    import onnx

FOLDER = "layers"
"""Of an engine's reports, with the files below."""
ERRORS = "errors.json"
INPUTS = {DENOISER: "denoiser-inputs.json", SEGMENTER: "segmenter-inputs.json"}
"""What each network is given, as Polygraphy's `--load-inputs` takes it."""
PURPOSE = "compare an engine layer by layer"


@dataclass(frozen=True, slots=True)
class Layers:
    """Errors of the layers of an engine."""

    engine: str
    """Name of the engine."""
    errors: tuple[LayerError, ...]
    """Those in which most error arises come first."""
    commands: tuple[str, ...]
    """Polygraphy's own commands that go on from here, one for each network."""


def compare_layers(
    bundle: Bundle, sidecar: Sidecar, frame: NDArray[np.uint8], folder: Path
) -> Layers:
    """Compare every convolution of an engine with FP32 on ONNX Runtime, on one frame.

    Args:
        bundle: a checked bundle.
        sidecar: of an engine that can run here.
        frame: (H,W,3) uint8 BGR.
        folder: where graphs, inputs and errors go; made if it is not there.

    Raises:
        MissingDependency: Polygraphy is not installed, or the engine's runtime.
        DeviceError: the runtime refuses a graph or fails to run it.
        UsageError: an engine of the other TensorRT was compared in this process.
        StorageError: the folder cannot be written.
    """
    require("polygraphy", "debug", PURPOSE)
    found: list[LayerError] = []
    for network, inputs in network_inputs(bundle, frame).items():
        chosen = sidecar.layers.float_layers.get(network, ())
        built = engine_graph(bundle, network, sidecar.precision, sidecar.runtime, chosen)
        write_whole(folder / network, for_polygraphy(built).SerializeToString(deterministic=True))
        _save_inputs(folder / INPUTS[network], inputs)
        graph = load_graph(bundle.path / network)
        layers = layers_of(graph)
        with tempfile.TemporaryDirectory() as scratch, _quiet():
            runner = _runner(
                with_outputs(built, layers), bundle, sidecar, inputs, Path(scratch) / network
            )
            expected, actual = _run_both(with_outputs(graph, layers), runner, inputs)
        found += errors_of(network, layers, expected, actual)
    commands = (
        run_command(sidecar.runtime, folder / network, folder / given)
        for network, given in INPUTS.items()
    )
    result = Layers(sidecar.name, tuple(worst_first(found)), tuple(commands))
    write_json(folder / ERRORS, layers_json(result))
    return result


def layers_json(layers: Layers) -> dict[str, Any]:
    """The errors as `errors.json` holds them."""
    return {
        "engine": layers.engine,
        "layers": [asdict(each) for each in layers.errors],
        "commands": list(layers.commands),
    }


def _run_both(
    reference: onnx.ModelProto, candidate: Any, inputs: Tensors
) -> tuple[Tensors, Tensors]:
    """The marked tensors of a graph in FP32 and of a runner."""
    from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx
    from polygraphy.comparator import Comparator

    session = SessionFromOnnx(reference.SerializeToString())
    runners = [OnnxrtRunner(session, name="FP32"), candidate]
    results = Comparator.run(runners, data_loader=[inputs])
    return dict(results[0][1][0].items()), dict(results[1][1][0].items())


@contextmanager
def _quiet() -> Iterator[None]:
    """Polygraphy writes what it does to stdout, and has an exception of its own for every error."""
    from polygraphy.exception import PolygraphyException
    from polygraphy.logger import G_LOGGER

    try:
        with G_LOGGER.verbosity(G_LOGGER.CRITICAL):
            yield
    except PolygraphyException as error:
        text = str(error).strip().split("\n")[0].rstrip(".")
        raise DeviceError(
            f"Polygraphy could not run the layers: {text}.",
            "see with 'dad-edge doctor' whether the runtime works, then build the engine again",
        ) from error


def _runner(
    graph: onnx.ModelProto, bundle: Bundle, sidecar: Sidecar, inputs: Tensors, path: Path
) -> Any:
    """Polygraphy's runner of a marked graph on the runtime of an engine.

    Args:
        graph: whose outputs are marked.
        bundle: of the engine.
        sidecar: of the engine.
        inputs: that it will be given.
        path: where the graph may be written; it is called as the network is.
    """
    if sidecar.runtime not in CPU_RUNTIMES:
        return _tensorrt_runner(graph, sidecar, inputs)
    path.write_bytes(graph.SerializeToString())
    return _engine_runner(
        sidecar.name,
        lambda: open_graph(sidecar.runtime, path, bundle.model, precision=sidecar.precision),
        inputs,
    )


def _engine_runner(name: str, opening: Callable[[], Engine], inputs: Tensors) -> Any:
    """One of our own engines as a runner."""
    from polygraphy.backend.base import BaseRunner
    from polygraphy.common import TensorMetadata
    from polygraphy.datatype import DataType

    class EngineRunner(BaseRunner):
        def activate_impl(self) -> None:
            self.engine = opening()

        def deactivate_impl(self) -> None:
            del self.engine

        def get_input_metadata_impl(self) -> Any:
            metadata = TensorMetadata()
            for key, value in inputs.items():
                metadata.add(key, dtype=DataType.from_dtype(value.dtype), shape=value.shape)
            return metadata

        def infer_impl(self, feed_dict: Mapping[str, NDArray[Any]]) -> Tensors:
            began = time.perf_counter()
            outputs = self.engine.run(dict(feed_dict))
            self.inference_time = time.perf_counter() - began
            return outputs

    return EngineRunner(name=name)


def _tensorrt_runner(graph: onnx.ModelProto, sidecar: Sidecar, inputs: Tensors) -> Any:
    """TensorRT through Polygraphy, which builds the marked graph on this GPU."""
    from polygraphy import config

    is_rtx = sidecar.runtime == "tensorrt-rtx"
    if "polygraphy.backend.trt" in sys.modules and is_rtx != config.USE_TENSORRT_RTX:
        raise UsageError(
            "Polygraphy takes TensorRT or TensorRT-RTX, not one after the other.",
            f"compare this engine alone: --engine {sidecar.name}",
        )
    config.USE_TENSORRT_RTX = is_rtx
    from polygraphy.backend.trt import CreateConfig, EngineFromNetwork, Profile, TrtRunner

    profile = Profile()
    for key, value in inputs.items():
        profile.add(key, value.shape, value.shape, value.shape)
    network = tensorrt_network(graph)
    engine = EngineFromNetwork(network, config=CreateConfig(profiles=[profile]))
    return TrtRunner(engine, name=sidecar.name)


def tensorrt_network(graph: onnx.ModelProto) -> Any:
    """Polygraphy's loader of a typed graph for TensorRT."""
    from polygraphy.backend.trt import NetworkFromOnnxBytes

    return NetworkFromOnnxBytes(graph.SerializeToString(), strongly_typed=True)


def _save_inputs(path: Path, inputs: Tensors) -> None:
    from polygraphy.json import to_json

    write_whole(path, to_json([inputs]).encode("utf-8"))
