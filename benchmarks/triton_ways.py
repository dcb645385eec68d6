"""Ways to ask a Triton server, and its inspection in one model or in three: latency and cost.

    python -m benchmarks.triton_ways --repository R    # writes the models; start a server on R
    python -m benchmarks.triton_ways --server HOST --out benchmarks/results

Ways: gRPC, gRPC with frames in shared memory, gRPC on one stream, HTTP; frames of three sizes, one
request at a time. Models: `whole`, as `dad-edge triton export` makes it, and `split`, whose
networks are models of their own that it calls for every batch (business logic scripting). All are
of the bundle in the package, on ONNX Runtime. Writes triton-ways_<device>_<date>.json.
"""

from __future__ import annotations

import argparse
import queue
import time
from collections.abc import Callable, Mapping
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.naming import result_file
from dad_edge.bench.row import draw_frames
from dad_edge.bundle import PACKAGED, open_bundle
from dad_edge.files import write_json
from dad_edge.machine.environment import describe_machine
from dad_edge.triton.protocol import FRAME, SCORE
from dad_edge.triton.repository import export_version
from dad_edge.triton.shared import SharedFrames

WHOLE, SPLIT = "whole", "split"
SIZES = ((256, 256), (720, 1280), (2160, 3840))
BATCHES = (1, 8)
ROUNDS, CALLS = 3, 7
NETWORKS = {"denoiser": ("x_t", "noise"), "segmenter": ("pair", "mask")}
_NETWORK = """
import numpy as np
import triton_python_backend_utils as pb
from pathlib import Path
from dad_edge.runtime.cpu.engine_onnx import OnnxEngine
from dad_edge.triton.served import _Held

class TritonPythonModel:
    def initialize(self, args):
        self.engine = OnnxEngine(Path({path!r}))

    def execute(self, requests):
        answers = []
        for request in requests:
            given = np.from_dlpack(pb.get_input_tensor_by_name(request, {source!r}))
            held = _Held(np.ascontiguousarray(self.engine.run({{ {source!r}: given }})[{target!r}]))
            tensor = pb.Tensor.from_dlpack({target!r}, held)
            held.used()
            answers.append(pb.InferenceResponse([tensor]))
        return answers
"""
_SPLIT = """
import numpy as np
import triton_python_backend_utils as pb
from dad_edge.triton import served

class Remote:
    def __init__(self, model, source, target):
        self.name, self.source, self.target = model, source, target

    def run(self, inputs):
        held = served._Held(np.ascontiguousarray(inputs[self.source]))
        tensor = pb.Tensor.from_dlpack(self.source, held)
        held.used()
        request = pb.InferenceRequest(
            model_name=self.name, requested_output_names=[self.target], inputs=[tensor]
        )
        answer = request.exec()
        if answer.has_error():
            raise RuntimeError(answer.error().message())
        return {self.target: np.from_dlpack(answer.output_tensors()[0])}

class TritonPythonModel(served.TritonPythonModel):
    def execute(self, requests):  # other models cannot be called before this one is loaded
        self._inspector._denoiser = Remote("denoiser", "x_t", "noise")
        self._inspector._segmenter = Remote("segmenter", "pair", "mask")
        return super().execute(requests)
"""


def write_models(repository: Path) -> None:
    """The model as it is exported, and the same with its networks as models of their own."""
    bundle = open_bundle(PACKAGED)
    for name in (WHOLE, SPLIT):
        version = export_version(bundle, repository, name)
    (version / "model.py").write_text(_SPLIT)
    for name, (source, target) in NETWORKS.items():
        folder = repository / name / "1"
        folder.mkdir(parents=True)
        path = str((bundle.path / f"{name}.onnx").resolve())
        (folder / "model.py").write_text(_NETWORK.format(path=path, source=source, target=target))
        config = (
            f'name: "{name}"\nbackend: "python"\nmax_batch_size: 0\n'
            f'input [{{ name: "{source}" data_type: TYPE_FP32 dims: [-1, -1, -1, -1] }}]\n'
            f'output [{{ name: "{target}" data_type: TYPE_FP32 dims: [-1, -1, -1, -1] }}]\n'
            "instance_group [{ kind: KIND_CPU count: 1 }]\n"
        )
        (repository / name / "config.pbtxt").write_text(config)


def timed(ways: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """Median latency and the client's processor time a call, the ways taking turns."""
    latency: dict[str, list[float]] = {name: [] for name in ways}
    used: dict[str, float] = dict.fromkeys(ways, 0.0)
    for number in range(ROUNDS + 1):
        for name, way in ways.items():
            began = time.process_time()
            for _ in range(CALLS):
                start = time.perf_counter()
                way()
                if number:
                    latency[name].append((time.perf_counter() - start) * 1e3)
            if number:
                used[name] += (time.process_time() - began) * 1e3
    return {
        name: {
            "p50_ms": round(float(np.median(latency[name])), 2),
            "client_cpu_ms": round(used[name] / (ROUNDS * CALLS), 2),
        }
        for name in ways
    }


class Asking:
    """One client for every way; each answers with the scores of frames (B,H,W,3)."""

    def __init__(self, host: str) -> None:
        import tritonclient.grpc as grpc
        import tritonclient.http as http

        self._grpc, self._http = grpc, http
        self._by_grpc = grpc.InferenceServerClient(f"{host}:8001")
        self._by_http = http.InferenceServerClient(f"{host}:8000")
        self._shared = SharedFrames(self._by_grpc)
        self._answers: queue.Queue[Any] = queue.Queue()
        self._by_grpc.start_stream(lambda result, error: self._answers.put((result, error)))

    def grpc(self, frames: Any, model: str = WHOLE) -> Any:
        given, wanted = self._given(self._grpc, frames)
        return self._by_grpc.infer(model, [given], outputs=wanted).as_numpy(SCORE)

    def shared_memory(self, frames: Any) -> Any:
        region = self._shared.put(frames)
        if region is None:
            raise SystemExit("the server does not see this machine's shared memory")
        given = self._grpc.InferInput(FRAME, list(frames.shape), "UINT8")
        given.set_shared_memory(region.name, frames.nbytes)
        wanted = [self._grpc.InferRequestedOutput(SCORE)]
        found = self._by_grpc.infer(WHOLE, [given], outputs=wanted).as_numpy(SCORE)
        self._shared.give_back(region)
        return found

    def stream(self, frames: Any) -> Any:
        given, wanted = self._given(self._grpc, frames)
        self._by_grpc.async_stream_infer(WHOLE, [given], outputs=wanted)
        result, error = self._answers.get()
        if error is not None:
            raise SystemExit(str(error))
        return result.as_numpy(SCORE)

    def http(self, frames: Any) -> Any:
        given, wanted = self._given(self._http, frames)
        return self._by_http.infer(WHOLE, [given], outputs=wanted).as_numpy(SCORE)

    def _given(self, module: Any, frames: Any) -> tuple[Any, list[Any]]:
        given = module.InferInput(FRAME, list(frames.shape), "UINT8")
        given.set_data_from_numpy(frames)
        return given, [module.InferRequestedOutput(SCORE)]

    def close(self) -> None:
        self._shared.close()
        self._by_grpc.stop_stream()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--repository", type=Path, help="write the models there, and end")
    parser.add_argument("--server", default="127.0.0.1", help="ports 8000 and 8001 of this host")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    if options.repository:
        write_models(options.repository)
        return
    asking, rng = Asking(options.server), np.random.default_rng(0)
    ways: dict[str, Any] = {}
    for height, width in SIZES:
        frame = rng.integers(0, 256, (1, height, width, 3), np.uint8)
        names = ("grpc", "shared_memory", "stream", "http")
        if len({float(getattr(asking, name)(frame)[0, 0]) for name in names}) != 1:
            raise SystemExit("the ways give different scores")
        calls = {name: partial(getattr(asking, name), frame) for name in names}
        ways[f"{width}x{height}"] = timed(calls)
    models: dict[str, Any] = {}
    for batch in BATCHES:
        frames = np.stack((draw_frames() * batch)[:batch])
        scores = [asking.grpc(frames, name) for name in (WHOLE, SPLIT)]
        calls = {name: partial(asking.grpc, frames, name) for name in (WHOLE, SPLIT)}
        row = models[f"{batch} frames"] = timed(calls)
        row["largest_difference_of_scores"] = float(np.abs(scores[0] - scores[1]).max())
    asking.close()
    environment = describe_machine()
    result = {"study": "triton-ways", "device": environment["device"]}
    result |= {"date": date.today().isoformat(), "ways": ways, "models": models}
    path = result_file(options.out, "triton-ways", environment["device"])
    write_json(path, result | {"environment": environment})
    print(path)


if __name__ == "__main__":
    main()
