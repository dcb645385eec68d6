"""PyTorch's noise against the published vectors and against the NumPy definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dad_edge.model import noise, philox

# Known-answer vectors published with the Random123 library for philox4x32, 10 rounds.
KNOWN_ANSWERS = [
    ([0, 0, 0, 0], (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, (0xFFFFFFFF,) * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        (0xA4093822, 0x299F31D0),
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_published_vectors(counter: list[int], key: tuple[int, int], answer: list[int]) -> None:
    words = noise.philox4x32([torch.tensor([word]) for word in counter], key)
    assert [int(word) for word in words] == answer


def test_integers_equal_numpy_bit_for_bit() -> None:
    counter = np.random.default_rng(0).integers(0, 1 << 32, (1000, 4), dtype=np.uint32)
    key = (0xDEADBEEF, 0x12345678)
    expected = philox.philox4x32(counter, np.array(key, np.uint32))
    words = noise.philox4x32(list(torch.from_numpy(counter.astype(np.int64)).T), key)
    np.testing.assert_array_equal(torch.stack(words, dim=1).numpy(), expected)


@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 5, 3), (1, 1, 1)])
def test_normals_equal_numpy(shape: tuple[int, int, int]) -> None:
    address = {"seed": (1 << 64) - 7, "lambda_index": 1, "frame_counter": (5 << 32) + 3}
    expected = philox.normal(shape, **address)
    made = noise.normal(shape, **address)
    assert made.dtype == torch.float32
    # One rounding of a float64 result: the libraries' log, sin and cos differ in the last bit.
    np.testing.assert_allclose(made.numpy(), expected, rtol=0, atol=1e-6)
