"""Time of every CUDA kernel against the bytes it moves and the GPU's copy bandwidth.

    python -m benchmarks.kernel_speed --out benchmarks/results

Needs a GPU, `cuda-core` and `cuda-bindings`. Each kernel runs in a CUDA graph between two events,
after a large copy, so that it finds nothing in the L2 cache; that copy gives the bandwidth too.
What `pool` costs depends on the masks, so it gets some that look like those of a defect. The
bytes are those of the table in `dad_edge/runtime/gpu/ops.py`. Writes kernels_<device>_<date>.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.naming import result_file
from dad_edge.config import RECIPES, Fusion, ModelConfig, SizeName
from dad_edge.errors import DadEdgeError
from dad_edge.machine.environment import describe_machine
from dad_edge.runtime.gpu.driver import Device, Stream, closed_on_error
from dad_edge.runtime.gpu.ops import COUNT_BYTES, ELEMENT_BYTES, CudaOps, Pixels, Tensors
from dad_edge.runtime.seams import Element

REPEATS = 30
FLUSH_BYTES = 256 << 20
"""Larger than any L2 cache."""
FRAME = (1080, 1920)


def bytes_moved(
    model: ModelConfig, batch: int, element: Element, frame: tuple[int, int]
) -> dict[str, int]:
    """Bytes that every step reads and writes at least."""
    width, plane = ELEMENT_BYTES[element], model.image_size**2
    image, levels = 3 * plane * batch * width, len(model.lambdas)
    guided = model.fusion == "norm_guided"
    segmented = 1 if guided else levels
    return {
        "inject": batch * 3 * frame[0] * frame[1] + image * (1 + levels),
        "restore": image * (1 + 2 * levels) + 2 * image * segmented,
        "pool": plane * batch * (segmented * width + 5 + 16) + 4 * batch,
    }


def measure(
    device: Device,
    model: ModelConfig,
    batch: int,
    element: Element,
    *,
    frame: tuple[int, int] = FRAME,
    repeats: int = REPEATS,
    flush_bytes: int = FLUSH_BYTES,
) -> dict[str, Any]:
    """One row of the result: median time of every step, and its share of the copy bandwidth.

    The device owns the memory that is allocated.
    """
    stream = device.stream()
    alpha_bar = [0.9 - 0.1 * index for index in range(len(model.lambdas))]
    ops = CudaOps(device, model, alpha_bar, element=element)
    flush = device.allocate(2 * flush_bytes).address
    tensors = _tensors(device, model, batch, element)
    one = 3 * frame[0] * frame[1]
    pixels = device.allocate(batch * one)
    views = [
        Pixels(pixels.address + index * one, 3 * frame[1], *frame, "bgr") for index in range(batch)
    ]
    steps: dict[str, Callable[[], None]] = {
        "inject": lambda: ops.inject(views, pixels.address, tensors, stream),
        "restore": lambda: ops.restore(tensors, stream),
        "pool": lambda: ops.pool(tensors, stream),
    }

    def copy() -> None:
        device.copy_rows(flush, flush + flush_bytes, flush_bytes, flush_bytes, 1, stream)

    moved = bytes_moved(model, batch, element, frame)
    copy_us = _median_us(device, stream, copy, lambda: None, repeats)
    bandwidth = 2 * flush_bytes / copy_us / 1e3
    rows = {}
    for name, step in steps.items():
        taken_us = _median_us(device, stream, step, copy, repeats)
        gbytes = moved[name] / taken_us / 1e3
        rows[name] = {
            "us": round(taken_us, 2),
            "bytes": moved[name],
            "gbyte_per_s": round(gbytes, 1),
            "share_of_bandwidth": round(gbytes / bandwidth, 3),
        }
    return {
        "image_size": model.image_size,
        "fusion": model.fusion,
        "batch": batch,
        "element": element,
        "frame": list(frame),
        "copy_gbyte_per_s": round(bandwidth, 1),
        "kernels": rows,
    }


def sample_masks(model: ModelConfig, batch: int, element: Element) -> NDArray[Any]:
    """(R·B,S,S) masks of a part with a small defect: near 0, no two pixels alike, a round peak.

    Masks of equal values are the best case of the search for the K-th highest: each of its passes
    counts a single digit.
    """
    size = model.image_size
    rows = batch if model.fusion == "norm_guided" else batch * len(model.lambdas)
    rng = np.random.default_rng(0)
    good = rng.beta(0.3, 12.0, (rows, size, size))
    y, x = np.indices((size, size)) / size
    peak = np.exp(-((y - 0.3) ** 2 + (x - 0.6) ** 2) / 0.002)
    kinds = {"f32": np.float32, "f16": np.float16}
    return np.asarray(np.maximum(good, 0.95 * peak), kinds[element])


def _tensors(device: Device, model: ModelConfig, batch: int, element: Element) -> Tensors:
    width, plane, levels = ELEMENT_BYTES[element], model.image_size**2, len(model.lambdas)

    def room(values: int, size: int = width) -> int:
        return device.allocate(values * size).address

    return Tensors(
        batch=batch,
        image=room(3 * plane * batch),
        x_t=room(3 * plane * batch * levels),
        noise=room(3 * plane * batch * levels),
        pair=room(6 * plane * batch * levels),
        masks=device.upload(sample_masks(model, batch, element)).address,
        score_map=room(plane * batch, 4),
        heat=room(plane * batch, 1),
        scores=room(batch, 4),
        counts=room(batch, COUNT_BYTES),
        broken=room(batch, 4),
    )


def _median_us(
    device: Device,
    stream: Stream,
    step: Callable[[], None],
    before: Callable[[], None],
    repeats: int,
) -> float:
    """Median time of a step in microseconds; a first run outside of the graph does not count."""
    marks = [(device.event(timing=True), device.event(timing=True)) for _ in range(repeats)]

    def enqueue() -> None:
        for start, end in marks:
            before()
            device.record_in_graph(start, stream)
            step()
            device.record_in_graph(end, stream)

    before()
    step()
    device.synchronize(stream)
    graph = device.capture(stream, enqueue)
    device.launch_graph(graph, stream)
    device.synchronize(stream)
    times = [device.elapsed_ms(start, end) * 1e3 for start, end in marks]
    for owned in (graph, *(event for pair in marks for event in pair)):
        owned.close()
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder of the result; only printed if left out")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="runs of every kernel")
    options = parser.parse_args()
    sizes: tuple[SizeName, ...] = ("nano", "paper")
    fusions: tuple[Fusion, ...] = ("average", "norm_guided")
    elements: tuple[Element, ...] = ("f32", "f16")
    rows = []
    try:
        for size, fusion, batch, element in product(sizes, fusions, (1, 8), elements):
            device = Device()
            with closed_on_error(device):
                model = replace(RECIPES[size].model, fusion=fusion)
                row = measure(device, model, batch, element, repeats=options.repeats)
                rows.append({"size": size} | row)
            device.close()
    except DadEdgeError as error:
        print(f"error: {error.message}\nnext: {error.next_step}", file=sys.stderr)
        sys.exit(error.exit_code)
    environment = describe_machine()
    result = {"schema_version": 1, "study": "kernels", "device": device.name}
    result |= {"date": date.today().isoformat(), "rows": rows, "environment": environment}
    text = json.dumps(result, indent=2)
    print(text)
    if options.out:
        file = result_file(options.out, "kernels", device.name)
        file.write_text(text + "\n", encoding="utf-8")
        print(f"wrote {file}", file=sys.stderr)


if __name__ == "__main__":
    main()
