"""The noise definition against published vectors and against its own promises."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dad_edge.model.philox import normal, philox4x32

# Known-answer vectors published with the Random123 library for philox4x32, 10 rounds.
KNOWN_ANSWERS = [
    ([0, 0, 0, 0], [0, 0], [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_published_vectors(counter: list[int], key: list[int], answer: list[int]) -> None:
    counters = np.array([counter] * 3, dtype=np.uint32)
    words = philox4x32(counters, np.array(key, dtype=np.uint32))
    assert words.dtype == np.uint32
    assert words.tolist() == [answer] * 3


def test_first_normals_follow_from_the_published_words() -> None:
    words = KNOWN_ANSWERS[0][2]
    u = [((word >> 9) + 0.5) / 2**23 for word in words]
    expected = []
    for a, b in ((u[0], u[1]), (u[2], u[3])):
        radius = math.sqrt(-2 * math.log(a))
        expected += [radius * math.cos(2 * math.pi * b), radius * math.sin(2 * math.pi * b)]
    noise = normal((1, 1, 4), seed=0, lambda_index=0, frame_counter=0)
    np.testing.assert_array_equal(noise.ravel(), np.array(expected, dtype=np.float32))


def test_every_address_word_changes_the_noise() -> None:
    base = {"seed": 1, "lambda_index": 0, "frame_counter": 5}
    changes = [
        {"seed": 2},
        {"seed": 1 + (1 << 32)},
        {"lambda_index": 1},
        {"frame_counter": 6},
        {"frame_counter": 5 + (1 << 32)},
    ]
    noises = [normal((3, 4, 4), **{**base, **change}) for change in [{}, *changes]]
    assert len({noise.tobytes() for noise in noises}) == len(noises)


def test_an_element_does_not_depend_on_the_size_of_the_image() -> None:
    large = normal((3, 8, 8), seed=7, lambda_index=1, frame_counter=0).ravel()
    odd = normal((3, 5, 3), seed=7, lambda_index=1, frame_counter=0)
    assert odd.shape == (3, 5, 3)
    np.testing.assert_array_equal(odd.ravel(), large[:45])


def test_the_noise_is_standard_normal() -> None:
    noise = normal((3, 256, 256), seed=0, lambda_index=0, frame_counter=0).astype(np.float64)
    # Four standard errors of each moment for n = 196,608 independent samples.
    four_errors = 4 / math.sqrt(noise.size)
    assert abs(noise.mean()) < four_errors
    assert abs(noise.var() - 1) < four_errors * math.sqrt(2)
    assert abs((noise**4).mean() - 3) < four_errors * math.sqrt(96)
    pairs = noise.ravel()
    assert abs((pairs[:-1] * pairs[1:]).mean()) < four_errors
    assert np.isfinite(noise).all()


@pytest.mark.parametrize(
    "address",
    [
        {"seed": -1, "lambda_index": 0, "frame_counter": 0},
        {"seed": 0, "lambda_index": 1 << 32, "frame_counter": 0},
        {"seed": 0, "lambda_index": 0, "frame_counter": 1 << 64},
    ],
)
def test_numbers_that_do_not_fit_are_refused(address: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be 0 to 2"):
        normal((3, 2, 2), **address)
