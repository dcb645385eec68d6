"""The histogram holds every part, on its side of the threshold."""

from xml.etree import ElementTree

import numpy as np
import pytest

from dad_edge.report.chart import score_histogram


def test_histogram_is_valid_and_has_every_part():
    scores = [0.0, 1e-9, 0.02, 0.5, 1.0]
    root = ElementTree.fromstring(score_histogram(scores, [0.9, 1.0], 0.1))
    bars = {"#15803d": 0.0, "#b91c1c": 0.0}
    for rect in root.iter("rect"):
        if rect.get("fill") in bars:
            assert 0 <= float(rect.get("x")) <= 1016
            bars[rect.get("fill")] += float(rect.get("height"))
    # The two scores at 0 share the highest bar, 84 units; the other three have half of it.
    assert bars["#15803d"] == pytest.approx(84 + 3 * 42)
    assert bars["#b91c1c"] == pytest.approx(2 * 84)
    texts = [text.text for text in root.iter("text")]
    assert {"Good", "Defective", "5 parts", "2 parts"} <= set(texts)
    assert "threshold 0.1: rejected to the right" in texts


@pytest.mark.parametrize("threshold", [0.0005, 0.0123, 0.5, 0.77, 1.0])
def test_histogram_bars_lie_on_their_side_of_the_threshold(threshold):
    scores = np.random.default_rng(1).random(200) ** 3
    scores[0] = threshold
    root = ElementTree.fromstring(score_histogram(scores.tolist(), [0.5], threshold))
    line = next(float(e.get("x1")) for e in root.iter("line") if e.get("stroke-dasharray"))
    bars = [e for e in root.iter("rect") if e.get("fill") == "#15803d"]
    unit = 84 / int(next(e.text for e in root.iter("text") if e.get("text-anchor") == "end"))
    spans = [(float(e.get("x")), float(e.get("width")), float(e.get("height"))) for e in bars]
    assert not any(x < line - 0.2 and x + w > line + 0.2 for x, w, _ in spans)
    passed = sum(height / unit for x, _, height in spans if x < line)
    assert passed == pytest.approx((scores <= threshold).sum(), abs=0.5)
    assert sum(height / unit for _, _, height in spans) == pytest.approx(200, abs=0.5)
