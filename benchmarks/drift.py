"""How often the drift alarm is wrong, and how soon it is right.

    python -m benchmarks.drift --out benchmarks/results

Three kinds of scores: two distributions in closed form, and scores of the demo product by the
bundle of the package. For each, calibrations of several sizes are drawn, the threshold is set at
1 % false rejects as `calibrate` does, and windows of accepted parts follow. Without a change, the
share of windows that raise the alarm is compared with the rate that is stated. With a change,
counted in standard deviations of the scores, the share that raise it is the power of one window.
The last rows dim the light of the demo product. Exit code 1 if the alarm is raised more often than
stated. Writes drift_<device>_<date>.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.naming import result_file
from dad_edge.bundle import PACKAGED, Thresholds
from dad_edge.data.demo import line as demo_line
from dad_edge.deploy.calibrate import QUANTILES, conformal_quantile
from dad_edge.line.drift import DriftWatch, Finding
from dad_edge.machine.environment import describe_machine
from dad_edge.runtime.inspector import open_inspector

SIZES = (50, 100, 400)
"""Good parts of a calibration."""
RATES = (0.01, 0.001)
"""False alarms a window that are asked for."""
SHIFTS = (0.25, 0.5, 1.0, -0.5, -1.0)
"""Changes of the mean, in standard deviations."""
WINDOW = 200
TARGET = 0.01
"""False rejects of the threshold."""
WINDOWS_OF_A_CALIBRATION = 10
SLACK = 3.0
"""Standard errors above the stated rate that chance may explain."""

Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]


def calibrated(scores: NDArray[np.float64]) -> Thresholds:
    """What `calibrate` would write for such scores."""
    threshold = min(1.0, max(0.0, float(conformal_quantile(list(scores), TARGET))))
    return Thresholds(
        image_threshold=threshold,
        pixel_threshold=0.5,
        target_false_reject_rate=TARGET,
        smallest_supported_rate=1 / (len(scores) + 1),
        normal_images=len(scores),
        normal_score_quantiles={str(q): float(np.quantile(scores, q)) for q in QUANTILES},
    )


def window(
    watch: DriftWatch, draw: Draw, rng: np.random.Generator, thresholds: Thresholds, shift: float
) -> Finding | None:
    """A window of accepted parts whose scores moved by `shift`."""
    threshold = thresholds.image_threshold
    while True:
        scores = draw(rng, WINDOW) + shift
        for score in scores[scores <= threshold]:
            if finding := watch.next(float(score), thresholds, threshold):
                return finding


def alarms(
    draw: Draw, size: int, rate: float, shift: float, calibrations: int, rng: np.random.Generator
) -> dict[str, Any]:
    """The share of windows that raise the alarm."""
    raised = windows = 0
    for _ in range(calibrations):
        thresholds = calibrated(np.clip(draw(rng, size), 0, 1))
        watch = DriftWatch(rate, WINDOW)
        for _ in range(WINDOWS_OF_A_CALIBRATION):
            finding = window(watch, draw, rng, thresholds, shift)
            windows += 1
            raised += finding is not None and finding.alarm
    return {"windows": windows, "alarms": raised, "share": round(raised / windows, 5)}


def too_many(row: dict[str, Any]) -> bool:
    """Whether more alarms came than the stated rate and chance explain."""
    expected: float = row["stated"] * row["windows"]
    return bool(row["alarms"] > expected + SLACK * max(1.0, expected**0.5))


def demo_scores(parts: int, change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
                seed: int) -> NDArray[np.float64]:  # fmt: skip
    """Scores of good parts of the demo product, whose pictures are changed first."""
    scores: list[float] = []
    with open_inspector(PACKAGED, pictures=False) as inspector:
        inspector.scene = None
        for sample in demo_line(seed, 0.0):
            scores.append(inspector.inspect(change(sample.image)).score)
            if len(scores) == parts:
                return np.array(scores)
    raise AssertionError("the demo line is endless")


def dimmed(share: float) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    """Less light."""
    return lambda image: np.rint(image * share).astype(np.uint8)


def drawn_from(scores: NDArray[np.float64]) -> Draw:
    """Draws scores that were measured, again and again, each moved a little."""
    spread = float(scores.std()) * 0.1

    def draw(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
        return rng.choice(scores, count) + rng.normal(0, spread, count)

    return draw


def rows_of(name: str, draw: Draw, calibrations: int) -> list[dict[str, Any]]:
    """False alarms for every size and rate, and the power of one window at the default rate."""
    rng = np.random.default_rng(0)
    deviation = float(draw(rng, 10_000).std())
    rows: list[dict[str, Any]] = []
    for size in SIZES:
        for rate in RATES:
            found = alarms(draw, size, rate, 0.0, calibrations, rng)
            row = {"scores": name, "normal_images": size, "shift": 0.0, "stated": rate, **found}
            rows.append({**row, "too_many": too_many(row)})
        for shift in SHIFTS:
            found = alarms(draw, size, RATES[-1], shift * deviation, calibrations // 10, rng)
            rows.append(
                {"scores": name, "normal_images": size, "shift": shift, "stated": RATES[-1],
                 **found}
            )  # fmt: skip
        print(f"{name}, {size} normal images: done", file=sys.stderr)
    return rows


def light_rows(parts: int, good: NDArray[np.float64]) -> list[dict[str, Any]]:
    """The demo product with its lamp dimmed, beside a calibration on half of the good parts."""
    half = len(good) // 2
    thresholds = calibrated(good[:half])
    rows = []
    for share in (1.0, 0.95, 0.9, 0.8):
        fresh = good[half:] if share == 1.0 else demo_scores(parts, dimmed(share), 1)
        accepted = fresh[fresh <= thresholds.image_threshold]
        watch = DriftWatch(RATES[-1], min(WINDOW, len(accepted)))
        found = None
        for score in accepted:
            found = found or watch.next(float(score), thresholds, thresholds.image_threshold)
        rows.append(
            {
                "light": share,
                "parts": len(fresh),
                "accepted": len(accepted),
                "mean_score": round(float(fresh.mean()), 4),
                "alarm": found is not None and found.alarm,
                "probability": found.probability if found else None,
                "message": found.message if found else "",
            }
        )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description="False alarms and power of the drift alarm.")
    parser.add_argument("--calibrations", type=int, default=500, help="of every size and rate")
    parser.add_argument("--parts", type=int, default=400, help="demo parts of every measurement")
    parser.add_argument("--out", type=Path, help="folder of the result; only printed if left out")
    options = parser.parse_args()
    good = demo_scores(2 * options.parts, lambda image: image, 0)
    kinds: Sequence[tuple[str, Draw]] = (
        ("beta(2, 15)", lambda rng, count: rng.beta(2, 15, count)),
        ("log-normal", lambda rng, count: 0.1 * rng.lognormal(0, 0.4, count)),
        ("demo product", drawn_from(good)),
    )
    rows = [row for name, draw in kinds for row in rows_of(name, draw, options.calibrations)]
    environment = describe_machine()
    result = {
        "schema_version": 1,
        "study": "drift",
        "date": date.today().isoformat(),
        "window": WINDOW,
        "windows_of_a_calibration": WINDOWS_OF_A_CALIBRATION,
        "rows": rows,
        "light": light_rows(options.parts, good),
        "environment": environment,
    }
    text = json.dumps(result, indent=2)
    print(text)
    if options.out:
        file = result_file(options.out, "drift", environment["device"])
        file.write_text(text + "\n", encoding="utf-8")
        print(f"wrote {file}", file=sys.stderr)
    return 1 if any(row.get("too_many") for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
