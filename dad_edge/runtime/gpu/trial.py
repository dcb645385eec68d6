"""Whether the kernels run on the GPU here: load them all, launch some, look at the result."""

from __future__ import annotations

import numpy as np

from dad_edge.config import RECIPES
from dad_edge.errors import DeviceError
from dad_edge.runtime.gpu.driver import Device, closed_on_error
from dad_edge.runtime.gpu.ops import COUNT_BYTES, CudaOps, Tensors

_VALUE = 0.25
"""Of every mask, so of the score too."""


def try_kernels() -> str:
    """Load the kernels on the first GPU and pool masks with them.

    Returns:
        Name of the GPU.

    Raises:
        MissingDependency: the CUDA packages or NVRTC are not installed.
        DeviceError: there is no GPU, it cannot load the kernels, or they compute wrongly.
    """
    device = Device()
    with closed_on_error(device):
        model = RECIPES["nano"].model
        levels, plane = len(model.lambdas), model.image_size**2
        ops = CudaOps(device, model, [0.5] * levels)
        stream, back = device.stream(), device.allocate_host(4)
        tensors = Tensors(
            batch=1,
            image=0,
            x_t=0,
            noise=0,
            pair=0,
            masks=device.upload(np.full((levels, plane), _VALUE, np.float32)).address,
            score_map=device.allocate(4 * plane).address,
            heat=device.allocate(plane).address,
            scores=device.allocate(4).address,
            counts=device.allocate(COUNT_BYTES).address,
            broken=device.upload(np.zeros(1, np.uint32)).address,
        )
        ops.pool(tensors, stream)
        device.copy_out(back.address, tensors.scores, 4, stream)
        device.synchronize(stream)
        score = float(back.bytes.view(np.float32)[0])
        if score != _VALUE:
            raise DeviceError(
                f"the kernels compute {score:g} on {device.name} where {_VALUE:g} is right.",
                "update the NVIDIA driver; if that does not help, report it as a bug",
            )
    device.close()
    return device.name
