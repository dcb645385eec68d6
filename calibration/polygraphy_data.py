"""What the networks of a bundle are given on the line, for every command of Polygraphy.

    DAD_EDGE_BUNDLE=bundle DAD_EDGE_DATA=FOLDER polygraphy run bundle/denoiser.onnx \\
        --onnxrt --trt --data-loader-script calibration/polygraphy_data.py:load_denoiser_data

By itself Polygraphy gives random numbers, which are neither a part nor noise on one. The images are
those that calibration would choose; `DAD_EDGE_COUNT` says how many, 8 if it is not set.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from dad_edge.bundle import DENOISER, SEGMENTER, open_bundle
from dad_edge.data.depth import find_depth
from dad_edge.data.layouts import list_items
from dad_edge.deploy.coverage import choose
from dad_edge.errors import UsageError
from dad_edge.gate.layer_errors import Tensors, network_inputs
from dad_edge.image.preprocess import read_frame


def load_denoiser_data() -> Iterator[Tensors]:
    """`x_t` (L·B,3,S,S) float32 of each image; see `load_data`."""
    return load_data(DENOISER)


def load_segmenter_data() -> Iterator[Tensors]:
    """`pair` (L·B,6,S,S) float32 of each image, (B,6,S,S) if guided; see `load_data`."""
    return load_data(SEGMENTER)


def load_data(network: str) -> Iterator[Tensors]:
    """The inputs of a network for each of a few good parts.

    Args:
        network: its file name in the bundle.

    Raises:
        UsageError: a variable is missing, or the number of images is none.
        DataError: the data set or an image cannot be read.
        ModelError: the bundle is damaged.
    """
    bundle = open_bundle(Path(_variable("DAD_EDGE_BUNDLE")))
    items = list_items(Path(_variable("DAD_EDGE_DATA")), "train")
    count = os.environ.get("DAD_EDGE_COUNT", "8")
    if not count.isdecimal() or int(count) < 1:
        raise UsageError(f"DAD_EDGE_COUNT is '{count}'.", "set it to a number from 1")
    depth = find_depth([item.path for item in items])
    for item in choose(items, int(count)):
        yield network_inputs(bundle, read_frame(item.path, depth))[network]


def _variable(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise UsageError(f"{name} is not set.", f"put {name}=FOLDER before the command")
    return value
