"""The figures against scikit-learn and against a second, brute-force PRO."""

import tracemalloc
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

from dad_edge.errors import ModelError
from dad_edge.report.metrics import (
    SCORE_LEVELS,
    PixelMetrics,
    best_f1_threshold,
    image_auroc,
    kind_table,
    score_levels,
    why_undefined,
)
from dad_edge.report.results import Figure

EXACT = 1e-12
Images = list[tuple[np.ndarray, np.ndarray]]


def as_half(values: np.ndarray) -> np.ndarray:
    """Round to half precision, where the levels are exact."""
    return values.astype(np.float16).astype(np.float32)


def measure(images: Images) -> PixelMetrics:
    metrics = PixelMetrics()
    for score_map, mask in images:
        metrics.update(score_map, mask)
    return metrics


def pixels(images: Images) -> tuple[np.ndarray, np.ndarray]:
    scores = np.concatenate([score_map.ravel() for score_map, _ in images])
    return scores, np.concatenate([mask.ravel() for _, mask in images])


def brute_force_pro(images: Images, max_fpr: float = 0.3) -> float:
    """PRO by sweeping every distinct score over every region."""
    scores, labels = pixels(images)
    regions = []
    for score_map, mask in images:
        labelled, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [score_map[labelled == index] for index in range(1, count + 1)]
    points = [(0.0, 0.0)]
    for threshold in np.unique(scores)[::-1]:
        fpr = float((scores[~labels] >= threshold).mean())
        points.append((fpr, float(np.mean([(r >= threshold).mean() for r in regions]))))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 >= max_fpr:
            break
        if x1 > max_fpr:
            x1, y1 = max_fpr, y0 + (y1 - y0) * (max_fpr - x0) / (x1 - x0)
        area += (x1 - x0) * (y0 + y1) / 2
    return area / max_fpr


def random_images(seed: int, rounding: Callable[[np.ndarray], np.ndarray] = as_half) -> Images:
    rng = np.random.default_rng(seed)
    images = []
    for index in range(5):
        mask = np.zeros((19, 23), bool)
        for _ in range(index):
            y, x, h, w = rng.integers(0, 12, 2).tolist() + rng.integers(1, 7, 2).tolist()
            mask[y : y + h, x : x + w] = True
        logits = rng.normal(-5, 3, mask.shape) + mask * rng.normal(5, 3)
        images.append((rounding((1 / (1 + np.exp(-logits))).astype(np.float32)), mask))
    return images


def one_pixel_regions() -> Images:
    mask = np.zeros((16, 16), bool)
    mask[::4, ::4] = True
    return [(as_half(np.random.default_rng(1).random(mask.shape) * (1 + mask) / 2), mask)]


def regions_touching_at_a_corner() -> Images:
    mask = np.zeros((16, 16), bool)
    mask[2:5, 2:5] = mask[5:12, 5:12] = True
    return [(as_half(np.random.default_rng(2).random(mask.shape)), mask)]


def many_ties() -> Images:
    return random_images(3, lambda scores: np.round(scores * 4) / np.float32(4))


def constant_maps() -> Images:
    return [(np.full(m.shape, 0.25, np.float32), m) for _, m in random_images(4)]


def perfect_maps() -> Images:
    return [(m.astype(np.float32), m) for _, m in random_images(5)]


def inverted_maps() -> Images:
    return [(1 - m.astype(np.float32), m) for _, m in random_images(6)]


def images_of_different_sizes() -> Images:
    rng = np.random.default_rng(10)
    images = []
    for height, width in ((1, 1), (5, 40), (31, 2), (16, 16)):
        mask = rng.random((height, width)) < 0.3
        images.append((as_half(rng.random(mask.shape) * (1 + mask) / 2), mask))
    return images


def one_image_all_good_and_one_all_bad() -> Images:
    rng = np.random.default_rng(11)
    return [(as_half(rng.random((9, 9))), np.full((9, 9), bad)) for bad in (False, True)]


def nested_and_border_regions() -> Images:
    """A ring with a dot inside that does not touch it, and a comb open to the border."""
    mask = np.zeros((20, 20), bool)
    mask[2:13, 2:13] = True
    mask[3:12, 3:12] = False
    mask[7, 7] = True
    mask[15:, ::2] = mask[19] = True
    return [(as_half(np.random.default_rng(12).random(mask.shape)), mask)]


def checkerboard() -> Images:
    """Half the pixels, joined into one region by their corners."""
    mask = np.indices((12, 12)).sum(axis=0) % 2 == 0
    return [(as_half(np.random.default_rng(13).random(mask.shape)), mask)]


def limit_on_a_threshold() -> Images:
    """FPR is exactly 0.3 at a threshold, and the next step is a long one."""
    scores = np.zeros((1, 20), np.float32)
    scores[0, :3] = 0.75
    mask = np.zeros((1, 20), bool)
    mask[0, 10:] = True
    scores[0, 12] = 1.0
    return [(scores, mask)]


def defects_without_a_mark() -> Images:
    """Images whose masks are empty count as good pixels."""
    bright = [(np.full((8, 8), 0.5, np.float32), np.zeros((8, 8), bool))] * 2
    return random_images(14) + bright


CASES = {
    "sizes": images_of_different_sizes(),
    "all_good_all_bad": one_image_all_good_and_one_all_bad(),
    "nested": nested_and_border_regions(),
    "checkerboard": checkerboard(),
    "limit_on_a_threshold": limit_on_a_threshold(),
    "empty_masks": defects_without_a_mark(),
    "random": random_images(0),
    "other_seed": random_images(7),
    "one_pixel_regions": one_pixel_regions(),
    "diagonal": regions_touching_at_a_corner(),
    "ties": many_ties(),
    "constant": constant_maps(),
    "perfect": perfect_maps(),
    "inverted": inverted_maps(),
}


@pytest.mark.parametrize("decimals", [1, 2, 8])
def test_image_auroc_equals_scikit_learn(decimals):
    rng = np.random.default_rng(decimals)
    labels = rng.random(200) < 0.3
    scores = np.round(rng.random(200) + labels * 0.2, decimals)
    assert image_auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=EXACT)


def test_figures_known_by_hand():
    labels = [0, 0, 1, 1]
    assert image_auroc([0.1, 0.4, 0.35, 0.8], labels) == 0.75
    assert image_auroc([0.5] * 4, labels) == 0.5
    assert image_auroc([3, 4, 1, 2], labels) == 0.0


@pytest.mark.parametrize("labels", [[0, 0], [1, 1]])
def test_one_class_alone_is_undefined(labels):
    assert image_auroc([0.1, 0.2], labels) is None
    mask = np.full((4, 4), bool(labels[0]))
    metrics = measure([(np.random.default_rng(0).random((4, 4), np.float32), mask)])
    assert (metrics.pixel_auroc(), metrics.pixel_ap(), metrics.pro()) == (None, None, None)
    assert why_undefined(labels) == ("no good images" if labels[0] else "no defective images")
    assert metrics.why_undefined() == (
        "no defect-free pixels" if labels[0] else "no marked defects"
    )


def test_nothing_measured_is_undefined():
    assert image_auroc([], []) is None
    assert PixelMetrics().pixel_auroc() is None
    assert PixelMetrics().pro() is None
    assert (why_undefined([]), PixelMetrics().why_undefined()) == ("no images", "no pixels")


def test_defined_figures_have_no_reason():
    assert why_undefined([0, 1]) is None
    assert measure(CASES["random"]).why_undefined() is None


@pytest.mark.parametrize("name", CASES)
def test_pixel_figures_equal_scikit_learn(name):
    metrics = measure(CASES[name])
    scores, labels = pixels(CASES[name])
    assert metrics.pixel_auroc() == pytest.approx(roc_auc_score(labels, scores), abs=EXACT)
    expected = average_precision_score(labels, scores)
    assert metrics.pixel_ap() == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize("max_fpr", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("name", CASES)
def test_pro_equals_a_threshold_sweep(name, max_fpr):
    expected = brute_force_pro(CASES[name], max_fpr)
    assert measure(CASES[name]).pro(max_fpr) == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize("seed", range(20, 40))
def test_pro_equals_a_threshold_sweep_on_random_regions_with_ties(seed):
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(int(rng.integers(1, 5))):
        mask = rng.random(rng.integers(2, 14, 2)) < rng.uniform(0.1, 0.5)
        scores = rng.integers(0, 2 ** rng.integers(1, 8), mask.shape) / 256
        images.append((scores.astype(np.float32), mask))
    assert measure(images).pro() == pytest.approx(brute_force_pro(images), abs=EXACT)


def test_memory_does_not_grow_with_the_number_of_images():
    rng = np.random.default_rng(0)
    mask = rng.random((64, 64)) < 0.1
    metrics = PixelMetrics()
    metrics.update(rng.random(mask.shape, np.float32), mask)
    tracemalloc.start()
    try:
        peaks = []
        for images in (100, 2000):
            tracemalloc.reset_peak()
            held = tracemalloc.get_traced_memory()[0]
            for _ in range(images):
                metrics.update(rng.random(mask.shape, np.float32), mask)
            now, peak = tracemalloc.get_traced_memory()
            peaks.append(peak - held)
            assert now - held < mask.nbytes, f"{images} images left {now - held} bytes"
    finally:
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_pro_known_by_hand():
    assert measure(CASES["perfect"]).pro() == 1.0
    assert measure(CASES["inverted"]).pro() == 0.0
    # On a constant map the curve is the diagonal, and 0.3² / 2 / 0.3 = 0.15.
    assert measure(CASES["constant"]).pro() == pytest.approx(0.15)


def test_pro_weighs_regions_alike_and_joins_them_over_corners():
    small_and_large = np.zeros((20, 20), bool)
    small_and_large[0, 0] = True
    small_and_large[5:15, 5:15] = True
    only_small_found = np.zeros((20, 20), np.float32)
    only_small_found[0, 0] = 1.0
    # Half the regions found at FPR 0, then a straight line to (1, 1).
    assert measure([(only_small_found, small_and_large)]).pro() == pytest.approx(0.5 + 0.5 * 0.15)
    joined = np.eye(20, dtype=bool)
    first_ten = np.where(np.arange(20) < 10, joined, False).astype(np.float32)
    assert measure([(first_ten, joined)]).pro() == pytest.approx(0.5 + 0.5 * 0.15)
    three = np.zeros((20, 20), bool)
    three[0, 0] = three[1, 1] = three[10, 10] = True
    last_only = np.zeros((20, 20), np.float32)
    last_only[10, 10] = 1.0
    # Two regions, not three: the first two pixels touch at a corner.
    assert measure([(last_only, three)]).pro() == pytest.approx(0.5 + 0.5 * 0.15)


def test_single_precision_stays_within_the_stated_bound():
    images = random_images(8, lambda scores: scores)
    scores, labels = pixels(images)
    levels = score_levels(scores)
    good = np.bincount(levels[~labels], minlength=SCORE_LEVELS) / (~labels).sum()
    defect = np.bincount(levels[labels], minlength=SCORE_LEVELS) / labels.sum()
    bound = (good * defect).sum() / 2
    overlap = np.zeros(SCORE_LEVELS)
    for score_map, mask in images:
        labelled, count = ndimage.label(mask, structure=np.ones((3, 3)))
        for index in range(1, count + 1):
            region = score_levels(score_map[labelled == index])
            overlap += np.bincount(region, minlength=SCORE_LEVELS) / region.size
    pro_bound = (good * overlap / overlap.sum()).sum() / 2 / 0.3
    metrics = measure(images)
    assert bound < 1e-3
    assert abs(metrics.pixel_auroc() - roc_auc_score(labels, scores)) <= bound + EXACT
    assert abs(metrics.pixel_ap() - average_precision_score(labels, scores)) < 1e-3
    assert pro_bound < 1e-3
    assert abs(metrics.pro() - brute_force_pro(images)) <= pro_bound + EXACT


def test_saturated_masks_are_told_apart():
    rng = np.random.default_rng(9)
    mask = rng.random((40, 40)) < 0.2
    near_zero = (rng.random(mask.shape) * (1 + mask) * 1e-9).astype(np.float32)
    near_one = (1 - rng.integers(1, 2000, mask.shape) / 2.0**24).astype(np.float32)
    for score_map in (near_zero, near_one):
        expected = roc_auc_score(mask.ravel(), score_map.ravel())
        assert measure([(score_map, mask)]).pixel_auroc() == pytest.approx(expected, abs=1e-3)


def test_levels_keep_order_and_never_merge_half_precision():
    halves = np.arange(0x3C01, dtype=np.uint16).view(np.float16).astype(np.float32)
    levels = score_levels(halves)
    assert (halves[0], halves[-1]) == (0.0, 1.0)
    assert (np.diff(levels) > 0).all()
    assert (levels[0], levels[-1]) == (0, SCORE_LEVELS - 1)
    singles = np.sort(np.random.default_rng(0).random(100_000, np.float32) ** 3)
    assert (np.diff(score_levels(singles)) >= 0).all()


def test_masks_of_images_of_different_sizes_and_number_types_are_counted():
    metrics = PixelMetrics()
    metrics.update(np.zeros((4, 6), np.float32), np.zeros((4, 6), bool))
    metrics.update(np.full((8, 2), 0.5, np.float64), np.full((8, 2), 255, np.uint8))
    assert metrics.pixel_auroc() == 1.0


@pytest.mark.parametrize("bad", [np.nan, -0.1, 1.5, np.inf])
def test_a_score_outside_its_range_is_refused(bad):
    score_map = np.zeros((3, 3), np.float32)
    score_map[1, 1] = bad
    with pytest.raises(ModelError, match=r"scores lie in \[0, 1\]"):
        PixelMetrics().update(score_map, np.zeros((3, 3), bool))


def test_an_image_score_that_is_not_a_number_is_refused():
    with pytest.raises(ModelError, match="not a finite number"):
        image_auroc([0.1, np.nan], [0, 1])


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 3\).*\(3, 4\)"):
        PixelMetrics().update(np.zeros((3, 3), np.float32), np.zeros((3, 4), bool))
    with pytest.raises(ValueError, match="2 scores and 3 labels"):
        image_auroc([0.1, 0.2], [0, 1, 1])


def test_kind_table_counts_misses_and_false_alarms():
    kinds = ["scratch", "good", "good", "dent", "scratch"]
    rows = kind_table(kinds, [0.9, 0.1, 0.6, 0.5, 0.2], threshold=0.5)
    assert [row.kind for row in rows] == ["good", "dent", "scratch"]
    good, dent, scratch = rows
    assert (good.images, good.false_alarms, good.image_auroc) == (2, 1, None)
    # A score equal to the threshold passes.
    assert (dent.detected_at_threshold, dent.missed, dent.image_auroc) == (0, 1, Figure(value=0.5))
    assert (scratch.detected_at_threshold, scratch.missed) == (1, 1)
    assert scratch.image_auroc == Figure(value=0.75)
    assert scratch.mean_score == pytest.approx(0.55)
    assert [(row.rejected, row.wrong) for row in rows] == [(1, 1), (0, 1), (1, 1)]


def test_kinds_without_good_parts_have_a_reason_for_their_missing_figure():
    (dent,) = kind_table(["dent"], [0.9], threshold=0.5)
    assert dent.image_auroc == Figure(undefined="no good images")


def test_best_f1_threshold_beats_every_other_threshold():
    rng = np.random.default_rng(0)
    labels = rng.random(60) < 0.4
    scores = np.round(np.clip(0.4 + 0.2 * labels + 0.2 * rng.standard_normal(60), 0, 1), 2)

    def f1(threshold):
        rejected = scores > threshold
        return 2 * (rejected & labels).sum() / (rejected.sum() + labels.sum())

    best = best_f1_threshold(scores, labels)
    assert best not in scores
    assert f1(best) == max(f1(t) for t in np.unique(scores)[:-1])


@pytest.mark.parametrize(
    ("scores", "labels"), [([0.1, 0.2], [0, 0]), ([0.1, 0.2], [1, 1]), ([0.3, 0.3], [0, 1])]
)
def test_best_f1_threshold_is_undefined_where_nothing_separates(scores, labels):
    assert best_f1_threshold(scores, labels) is None
