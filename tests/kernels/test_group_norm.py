"""group_norm.cu against PyTorch's GroupNorm and SiLU in float64."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from kernel_host import guarded, launch

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra 'train')")
from torch.nn import functional as F  # noqa: E402, N812

KINDS = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
TOLERANCE = {"f32": 2e-6, "f16": 1e-3, "bf16": 8e-3}
"""Relative to the largest value: the type's own rounding, twice."""


def bits(tensor: torch.Tensor) -> np.ndarray:
    """The values as the kernel reads them; NumPy has no bfloat16."""
    if tensor.dtype == torch.float32:
        return tensor.numpy()
    return tensor.view(torch.int16).numpy().view(np.uint16)


@pytest.mark.parametrize("element", KINDS)
@pytest.mark.parametrize("with_silu", [False, True])
@pytest.mark.parametrize(
    ("rows", "positions", "channels", "groups", "parts", "blocks", "threads"),
    [
        (2, 37, 16, 4, 3, 5, 12),
        (1, 64, 32, 32, 1, 2, 32),
        (3, 9, 12, 2, 9, 1, 3),
        (1, 4, 8, 8, 7, 6, 2),
    ],
)
def test_it_is_group_norm(
    element: str,
    with_silu: bool,
    rows: int,
    positions: int,
    channels: int,
    groups: int,
    parts: int,
    blocks: int,
    threads: int,
) -> None:
    generator = torch.Generator().manual_seed(3)
    kind = KINDS[element]

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(kind)

    x_BNC, gain, offset = 3 * drawn(rows, positions, channels) + 1, drawn(channels), drawn(channels)
    sums, check_sums = guarded((rows, parts, groups, 2), np.float32)
    stored = np.float32 if element == "f32" else np.uint16
    y, check_y = guarded((rows, positions, channels), stored)
    sizes = [ctypes.c_int(size) for size in (positions, channels, groups)]
    launch(f"norm_sums_{element}", (parts, rows), threads, bits(x_BNC), sums, *sizes)
    launch(
        f"norm_apply_{element}",
        (blocks, rows),
        threads,
        *(bits(x_BNC), sums, bits(gain), bits(offset), y, *sizes),
        *(ctypes.c_int(parts), ctypes.c_float(1e-5), ctypes.c_int(with_silu)),
    )
    check_sums()
    check_y()
    expected = F.group_norm(
        x_BNC.double().transpose(1, 2), groups, gain.double(), offset.double(), 1e-5
    ).transpose(1, 2)
    if with_silu:
        expected = F.silu(expected)
    found = torch.from_numpy(y if element == "f32" else y.view(np.int16))
    found = found.double() if element == "f32" else found.view(kind).double()
    error = (found - expected).abs().max() / expected.abs().max()
    assert error < TOLERANCE[element]


def test_bfloat16_rounds_as_pytorch_does() -> None:
    near_one = 1 + torch.arange(-600, 600) * 2.0**-12  # ties to both sides among them
    special = torch.tensor([0.0, -0.0, 3.4e38, -3.3e38, 1e-40, float("inf"), float("nan")])
    values = torch.cat([near_one, special, torch.randn(500, generator=torch.Generator()) * 100])
    words, back = np.zeros(len(values), np.uint16), np.zeros(len(values), np.float32)
    launch(
        "bfloat_round_trip",
        (len(values), 1),
        1,
        values.numpy(),
        words,
        back,
        ctypes.c_int(len(values)),
    )
    expected = values.bfloat16()
    np.testing.assert_array_equal(back, expected.float().numpy())
    number = ~np.isnan(back)
    np.testing.assert_array_equal(words[number], bits(expected)[number])
