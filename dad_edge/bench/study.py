"""A study: its rows are measured one after the other, and none of them can stop the others."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timezone
from itertools import islice
from typing import Any

import numpy as np

from dad_edge.bench.case import Case
from dad_edge.bench.cases import Planned, StudyName, deployed, plan_rows, sweeps
from dad_edge.bench.cost import total
from dad_edge.bench.layers import PROFILERS, profile_bundle
from dad_edge.bench.measure import (
    FEWEST_STEADY,
    Block,
    Samples,
    measure,
    percentiles,
    rounded,
    summary,
)
from dad_edge.bench.pace import Pace
from dad_edge.bench.roof import Peaks, roof_of
from dad_edge.bench.scaling import fit_sweep
from dad_edge.bench.subject import Frame, Subject, case_cost, check_here, open_case
from dad_edge.bundle import Bundle
from dad_edge.errors import DadEdgeError
from dad_edge.machine.environment import describe
from dad_edge.machine.gpu import describe_nvidia
from dad_edge.machine.load import LoadWatch
from dad_edge.machine.sensors import read_sensors, throttling
from dad_edge.progress import Progress, silent

SCHEMA_VERSION = 3
FRAMES = 16
FRAME_SIDE = 256
SECONDS: dict[StudyName, float] = {
    "main": 5.0,
    "table3": 3.0,
    "table4": 3.0,
    "precision": 3.0,
    "scaling": 2.0,
}
"""How long a row is measured where the user does not say."""
LONGEST_CALL_S: dict[StudyName, float] = {
    "main": 4.0,
    "table3": 25.0,
    "table4": 25.0,
    "precision": 4.0,
    "scaling": 4.0,
}
"""A row whose call is expected to take longer is left out, and says so."""
LIMIT_S = 720.0
"""Rows that a study has not begun by then are left out, and say so."""
EXPECTED_SHARE = 0.4
"""Share of the peak that is expected of a row before it was measured."""
NETWORK_CALLS = 30
VISITS = 3
"""How often a row is opened and measured for half its time; the last visit is for those that are
not steady. What differs between two openings, such as where memory lies, is seen in no single one,
and a machine that was slowed at one time may not be at another."""


def run_study(
    bundle: Bundle,
    study: StudyName = "main",
    *,
    engine: str | None = None,
    seconds: float | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Measure the rows of a study.

    Args:
        bundle: a checked bundle.
        study: which rows; `all` for every one.
        engine: name of a built engine: that alone is measured.
        seconds: how long to measure a row, longer while it is not steady; by default what suits
            the study.
        progress: told how far the study is.

    Returns:
        Plain values for JSON, described in `benchmarks/README.md`.
    """
    progress(0.0, 1.0, "drawing frames")
    frames = draw_frames()
    planned = plan_rows(study, bundle, engine=engine)
    peaks, pace = Peaks(min(0.5, (seconds or 5.0) / 10)), Pace()
    sensors = read_sensors()
    rows: dict[str, dict[str, Any]] = {}
    not_measured: list[dict[str, Any]] = []
    blocks: dict[str, list[Block]] = {plan.case.name: [] for plan in planned}
    started = time.perf_counter()
    with LoadWatch() as watch:
        for visit in range(VISITS):
            for number, plan in enumerate(planned):
                name, length = plan.case.name, _length(plan, seconds)
                passed_s = time.perf_counter() - started
                late = passed_s > LIMIT_S
                if visit > 0 and (late or not _worth_a_visit(rows.get(name), visit, length, pace)):
                    continue
                done = (visit + number / len(planned)) / VISITS
                within = _part_of(progress, name, done, 1 / len(planned) / VISITS)
                found = _attempt(
                    plan, frames, length / 2, peaks, pace, within, passed_s, blocks[name]
                )
                if "reason" not in found:
                    rows[name] = found | _worse(rows.get(name, found), found)
                elif visit == 0:
                    not_measured.append(found)
                else:
                    rows[name]["unstable"] = f"it could not be measured again: {found['reason']}"
    progress(1.0, 1.0, "measuring the peak again")
    peaks.measure_again()
    measured = list(rows.values())
    for row in measured:
        row |= limits(row, peaks) | {"times_eager": times_eager(row, measured)}
        row |= machine_share(row, pace)
    after = read_sensors()
    result = {
        "schema_version": SCHEMA_VERSION,
        "study": study,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "environment": describe(),
        "bundle": {
            "name": bundle.path.resolve().name,
            "class_name": bundle.manifest.class_name,
            "sha256": bundle.onnx_digests,
        },
        "frames": {"source": "demo product, drawn beforehand", "count": FRAMES}
        | {"height": FRAME_SIDE, "width": FRAME_SIDE},
        "load": watch.load.to_mapping(),
        "sensors": {"before": sensors, "after": after, "throttling": throttling(sensors, after)},
        "peak": peaks.to_mapping(),
        "rows": measured,
        "not_measured": not_measured,
    }
    if engine is None and {"main", "precision"} & {n for plan in planned for n in plan.studies}:
        progress(1.0, 1.0, "profiling layers")
        result["layers"] = _layers(bundle, peaks)
    if any("scaling" in plan.studies for plan in planned):
        result["scaling"] = _scaling(bundle, measured)
    return result


def _part_of(progress: Progress, name: str, before: float, part: float) -> Progress:
    """The progress of one row as progress of the study."""

    def within(done: float, total: float, note: str = "") -> None:
        progress(before + done / total * part, 1.0, f"{name}: {note}")

    return within


def _length(plan: Planned, seconds: float | None) -> float:
    """How long to measure a row; the longest of its studies counts."""
    return seconds or max(SECONDS[name] for name in plan.studies)


def _attempt(
    plan: Planned,
    frames: Sequence[Frame],
    seconds: float,
    peaks: Peaks,
    pace: Pace,
    progress: Progress,
    passed_s: float,
    blocks: list[Block],
) -> dict[str, Any]:
    """A row, or the description of one that was not measured with `reason` and `next`."""
    about = plan.case.to_mapping() | {"studies": list(plan.studies)}
    progress(0.0, 1.0, "opening")
    longest = max(LONGEST_CALL_S[name] for name in plan.studies)
    try:
        _check_time(passed_s)
        row = measure_case(plan.case, frames, seconds, longest, peaks, pace, progress, blocks)
        return about | row
    except DadEdgeError as error:
        return about | {"reason": error.message, "next": error.next_step}
    except Exception as error:  # whatever a runtime raises costs its row, not the study
        said = str(error).strip().split("\n")[0][:300]
        return about | {"reason": f"failed: {type(error).__name__}: {said}", "next": None}


def _worth_a_visit(row: dict[str, Any] | None, visit: int, seconds: float, pace: Pace) -> bool:
    """Every row that is quick enough to be steady is visited twice, and once more if it is not."""
    if row is None or row["latency_ms"]["p50"] / 1e3 * FEWEST_STEADY > seconds * VISITS:
        return False
    return visit < VISITS - 1 or bool((row | machine_share(row, pace))["unstable"])


def _worse(earlier: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """What disturbed any visit to a row."""
    return {
        "load": max(earlier["load"], row["load"], key=lambda load: bool(load["loaded"])),
        "throttling": sorted({*earlier["throttling"], *row["throttling"]}),
    }


def draw_frames() -> list[Frame]:
    """Frames of the demo product, the same every time."""
    from dad_edge.data.demo import line

    return [sample.image for sample in islice(line(size=FRAME_SIDE), FRAMES)]


def run_own(bundle: Bundle, seconds: float) -> dict[str, Any] | None:
    """The bundle as it is deployed here, measured alone; None where it cannot run."""
    case = deployed(bundle, "cuda" if describe_nvidia()["gpus"] else "cpu")
    peaks, pace = Peaks(min(0.5, seconds / 10)), Pace()
    try:
        row = measure_case(case, draw_frames(), seconds, LONGEST_CALL_S["table3"], peaks, pace)
    except DadEdgeError:
        return None
    row = case.to_mapping() | row
    return row | limits(row, peaks) | machine_share(row, pace)


def measure_case(
    case: Case,
    frames: Sequence[Frame],
    seconds: float,
    longest_s: float,
    peaks: Peaks,
    pace: Pace,
    progress: Progress = silent,
    blocks: list[Block] | None = None,
) -> dict[str, Any]:
    """One row of the result, without its limits.

    Args:
        case: what to measure.
        frames: (H,W,3) uint8 BGR, inspected in turn.
        seconds: how long; more while it is not steady.
        longest_s: a case whose call is expected to take longer is not opened.
        peaks: of the devices.
        pace: watches the machine's own speed.
        progress: told how far it is.
        blocks: of earlier visits, which count too; those of this one are added.

    Raises:
        DadEdgeError: it cannot run here, or is expected to be too slow; the message says why.
    """
    check_here(case)
    _check_expected(case, longest_s, peaks)
    before = read_sensors()
    with open_case(case, frames) as subject, LoadWatch() as watch:
        watched = pace if case.device == "cpu" else None  # a GPU tells its clock itself
        samples = measure(subject.call, seconds, progress, watched, blocks)
        networks = _networks_ms(subject, samples, seconds)
    after = read_sensors()
    cost = total(subject.costs)
    return {
        "backend": subject.backend,
        "threads": subject.threads,
        "setup_s": round(subject.setup_s, 3),
        **summary(samples, case.batch * case.cameras),
        "networks_ms": networks,
        "stages": _stages(samples, subject),
        "gflop": rounded(cost.gflop / case.batch / case.cameras) if cost else None,
        "bytes": round(cost.gigabytes(case.precision) * 1e9) if cost else None,
        "machine_speed": samples.speed,
        "load": watch.load.to_mapping(),
        "cpu_mhz": after["cpu_mhz"],
        "temperature_c": after["temperature_c"],
        "throttling": throttling(before, after),
    }


def _check_time(passed_s: float) -> None:
    if passed_s > LIMIT_S:
        raise DadEdgeError(
            f"left out: the study's {LIMIT_S / 60:g} minutes were over.",
            "run a study with fewer rows, such as 'dad-edge bench --study table4'",
        )


def _check_expected(case: Case, longest_s: float, peaks: Peaks) -> None:
    cost = total(case_cost(case))
    peak = peaks.gflop_per_s(case.device, "fp32")
    if cost is None or peak is None:
        return
    expected_s = cost.gflop / (peak * EXPECTED_SHARE)
    if expected_s > longest_s:
        raise DadEdgeError(
            f"left out: about {expected_s:.0f} s a frame are expected here ({cost.gflop:.0f} GFLOP "
            f"at {EXPECTED_SHARE:.0%} of {peak:.0f} GFLOP/s); this study allows {longest_s:g} s.",
            "run it on a faster device, or estimate it with 'dad-edge bench --predict h100'",
        )


def _networks_ms(subject: Subject, samples: Samples, seconds: float) -> dict[str, float] | None:
    """Both networks without the steps around them and without host-device copies."""
    if subject.networks is None:
        both = [s["denoise"] + s["segment"] for s in samples.stage_ms if "denoise" in s]
        return percentiles(both) if both else None
    found: list[float] = []
    end = time.perf_counter() + seconds / 2
    subject.networks()
    while len(found) < NETWORK_CALLS and (not found or time.perf_counter() < end):
        start = time.perf_counter()
        subject.networks()
        found.append((time.perf_counter() - start) * 1e3)
    return percentiles(found)


def _stages(samples: Samples, subject: Subject) -> dict[str, Any]:
    """Time, share and rate of every step; the shares are of the whole latency."""
    names = samples.stage_ms[0] if samples.stage_ms else {}
    total_ms = sum(samples.latency_ms)
    found = {}
    for name in names:
        values = [stages[name] for stages in samples.stage_ms]
        cost = subject.costs.get(name)
        found[name] = {
            **percentiles(values),
            "share": round(sum(values) / total_ms, 4),
            "gflop": rounded(cost.gflop) if cost else None,
            "gflop_per_s": rounded(cost.gflop * 1e3 / float(np.median(values))) if cost else None,
        }
    return found


def limits(row: dict[str, Any], peaks: Peaks) -> dict[str, Any]:
    """Roof of a row and the share of it that was reached; None where one is not known."""
    gflop_per_s = peaks.gflop_per_s(row["device"], row["precision"])
    gbyte_per_s = peaks.gbyte_per_s(row["device"])
    unknown = dict.fromkeys(("roof_fps", "arithmetic_fps", "memory_fps", "share_of_roof"))
    if row["gflop"] is None or gflop_per_s is None or gbyte_per_s is None:
        return unknown
    frames = row["batch"] * row["cameras"]
    roof = roof_of(row["gflop"] * frames, row["bytes"] / 1e9, frames, gflop_per_s, gbyte_per_s)
    return {
        "roof_fps": rounded(roof.fps),
        "arithmetic_fps": rounded(roof.arithmetic_fps),
        "memory_fps": rounded(roof.memory_fps),
        "share_of_roof": rounded(row["fps"] / roof.fps),
    }


def machine_share(row: dict[str, Any], pace: Pace) -> dict[str, Any]:
    """The machine's speed during a row as a share of its full speed, known at the end only.

    A machine that was slowed through the whole of an early row has shown it by then.
    """
    if row["machine_speed"] is None:
        return {}
    slowed = pace.slowed(row["machine_speed"])
    shares = {name: rounded(share) for name, share in pace.shares(row["machine_speed"]).items()}
    why = "the machine itself was slower than in the rest of the study"
    return {"machine_speed": shares, "unstable": row["unstable"] or (why if slowed else None)}


def times_eager(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> float | None:
    """Frames/s of a row ÷ those of the same networks as the authors run them; None without them."""
    same = ("method", "lambdas", "size", "image_size")
    for other in rows:
        plain = (other["batch"], other["cameras"], other["decode"]) == (1, 1, False)
        authors = other["engine"] == "PyTorch eager" and other["precision"] in ("fp32", "tf32")
        if authors and plain and all(other[key] == row[key] for key in same):
            return rounded(row["fps"] / other["fps"])
    return None


def _layers(bundle: Bundle, peaks: Peaks) -> list[dict[str, Any]]:
    """The bundle's layers on every CPU runtime; one that fails says why."""
    found: list[dict[str, Any]] = []
    for profiler in PROFILERS:
        rates = peaks.gflop_per_s("cpu", "fp32"), peaks.gbyte_per_s("cpu")
        try:
            found.append(profile_bundle(bundle, profiler, *rates))
        except DadEdgeError as error:
            found.append({"engine": profiler, "reason": error.message})
        except Exception as error:  # whatever a runtime raises costs its profile alone
            found.append({"engine": profiler, "reason": f"failed: {type(error).__name__}: {error}"})
    return found


def _scaling(bundle: Bundle, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    measured = {row["name"]: row for row in rows}
    device = "cuda" if describe_nvidia()["gpus"] else "cpu"
    return [
        fit_sweep(
            axis,
            [(x, measured[case.name]) for x, case in places if case.name in measured],
            [case.name for _, case in places if case.name not in measured],
        )
        for axis, places in sweeps(bundle, device).items()  # type: ignore[arg-type]
    ]
