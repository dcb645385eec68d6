"""The lists against plain sorting, and the size of what is kept."""

import numpy as np

from dad_edge.image.pictures import InspectedImage
from dad_edge.report.examples import KEPT_SIDE, pick_examples, small_copy
from dad_edge.report.results import ImageScore


def image(name: str, kind: str, score: float) -> ImageScore:
    return ImageScore(name=name, kind=kind, score=score)


def names(examples: dict) -> dict:
    return {group: [picked.name for picked in images] for group, images in examples.items()}


def test_lists_known_by_hand():
    images = [
        image("missed-near", "dent", 0.45),
        image("missed-far", "dent", 0.05),
        image("alarm", "good", 0.8),
        image("sure-defect", "dent", 0.99),
        image("defect", "dent", 0.7),
        image("sure-good", "good", 0.01),
        image("close", "good", 0.49),
    ]
    picked = names(pick_examples(images, threshold=0.5, count=2))
    assert picked == {
        "worst": ["missed-far", "alarm"],
        "borderline": ["close", "missed-near"],
        "best": ["sure-defect", "sure-good"],
    }


def test_many_images_agree_with_sorting_and_none_is_listed_twice():
    rng = np.random.default_rng(0)
    kinds = rng.choice(["good", "scratch"], 300)
    images = [image(f"{i}", str(kinds[i]), float(rng.random())) for i in range(300)]
    picked = names(pick_examples(images, threshold=0.6, count=5))
    missed = sorted((i.score, i.name) for i in images if i.kind != "good" and i.score <= 0.6)
    alarms = sorted((-i.score, i.name) for i in images if i.kind == "good" and i.score > 0.6)
    assert picked["worst"][0::2] == [name for _, name in missed[:3]]
    assert picked["worst"][1::2] == [name for _, name in alarms[:2]]
    assert picked["borderline"] == [
        i.name for i in sorted(images, key=lambda i: abs(i.score - 0.6))[:5]
    ]
    every = [name for group in picked.values() for name in group]
    assert len(every) == len(set(every)) == 15


def test_of_equals_the_earlier_stays():
    images = [image(f"{i}", "dent", 0.1) for i in range(9)]
    picked = names(pick_examples(images, threshold=0.5, count=2))
    assert picked == {"worst": ["0", "1"], "borderline": ["2", "3"], "best": []}


def test_no_images_give_empty_lists():
    assert pick_examples([], 0.5) == {"worst": [], "borderline": [], "best": []}


def test_kept_pictures_are_small_copies_and_thin_defects_stay():
    side = 3 * KEPT_SIDE
    colour = np.zeros((side, side, 3), np.uint8)
    mask = np.zeros((side, side), np.uint8)
    mask[:, 700] = 1
    kept = small_copy(InspectedImage("large", "dent", 0.1, colour, colour, colour[..., 0], mask))
    assert kept.frame.shape == kept.restored.shape == (KEPT_SIDE, KEPT_SIDE, 3)
    assert kept.heat.shape == kept.mask.shape == (KEPT_SIDE, KEPT_SIDE)
    assert (kept.mask.max(axis=1) == 255).all()
    small = np.zeros((4, 4, 3), np.uint8)
    copy = small_copy(InspectedImage("small", "good", 0.1, small, small, small[..., 0], None))
    small[:] = 77  # a reader may use its buffer again
    assert copy.frame.max() == 0
    assert copy.mask is None
