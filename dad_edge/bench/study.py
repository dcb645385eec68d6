"""A study: its rows are measured one after the other, and none of them can stop the others."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone

from dad_edge.bench.case import Device
from dad_edge.bench.cases import Planned, plan_rows, sweeps
from dad_edge.bench.layers import PROFILERS, profile_bundle
from dad_edge.bench.measure import FEWEST_STEADY, Block
from dad_edge.bench.names import StudyName
from dad_edge.bench.pace import Pace
from dad_edge.bench.result import (
    DrawnFrames,
    LayerProfile,
    MeasuredBundle,
    NotMeasured,
    Row,
    StudyResult,
    StudySensors,
    Sweep,
    values_of,
)
from dad_edge.bench.roof import Peaks
from dad_edge.bench.row import FRAME_SIDE, Measured, Rig, draw_frames, finish, measure_case
from dad_edge.bench.scaling import fit_sweep
from dad_edge.bundle import Bundle
from dad_edge.errors import DadEdgeError
from dad_edge.machine.environment import describe_machine
from dad_edge.machine.gpu import describe_nvidia
from dad_edge.machine.load import LoadWatch
from dad_edge.machine.sensors import read_sensors, throttling
from dad_edge.progress import Progress, silent

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
"""A row whose call is expected to take longer is left out with that reason."""
LIMIT_S = 720.0
"""Rows that a study has not begun by then are left out with that reason."""
VISITS = 3
"""How often a row is opened and measured for half its time. The last visit is for rows that are not
steady. One opening alone does not show what differs between openings, such as where memory lies,
and a machine that was slowed at one time may not be at another."""


def run_study(
    bundle: Bundle,
    study: StudyName = "main",
    *,
    engine: str | None = None,
    seconds: float | None = None,
    progress: Progress = silent,
) -> StudyResult:
    """Measure the rows of a study.

    Args:
        bundle: a checked bundle.
        study: which rows; `all` for every one.
        engine: name of a built engine, which alone is measured.
        seconds: how long to measure a row, longer while it is not steady; by default what suits
            the study.
        progress: told how far the study is.
    """
    progress(0.0, 1.0, "drawing frames")
    planned = plan_rows(study, bundle, engine=engine)
    rig = Rig(draw_frames(), Peaks(min(0.5, (seconds or 5.0) / 10)), Pace())
    before = read_sensors()
    with LoadWatch() as watch:
        measured, not_measured = _visit_all(planned, rig, seconds, progress)
    progress(1.0, 1.0, "measuring the peak again")
    rig.peaks.measure_again()
    rows = [one.row for one in measured]
    rows = [finish(one, rig.peaks, rig.pace, rows) for one in measured]
    after = read_sensors()
    studies = {name for plan in planned for name in plan.studies}
    layers, scaling = None, None
    if engine is None and {"main", "precision"} & studies:
        progress(1.0, 1.0, "profiling layers")
        layers = _layers(bundle, rig.peaks)
    if "scaling" in studies:
        scaling = _scaling(bundle, rows)
    return StudyResult(
        study=study,
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        environment=describe_machine(),
        bundle=MeasuredBundle(
            name=bundle.path.resolve().name,
            class_name=bundle.manifest.class_name,
            sha256=bundle.onnx_digests,
        ),
        frames=DrawnFrames(
            source="demo product, drawn beforehand",
            count=len(rig.frames),
            height=FRAME_SIDE,
            width=FRAME_SIDE,
        ),
        load=watch.load,
        sensors=StudySensors(before=before, after=after, throttling=throttling(before, after)),
        peak=rig.peaks.rates(),
        rows=tuple(rows),
        not_measured=tuple(not_measured),
        layers=layers,
        scaling=scaling,
    )


def _visit_all(
    planned: Sequence[Planned], rig: Rig, seconds: float | None, progress: Progress
) -> tuple[list[Measured], list[NotMeasured]]:
    """Visit all rows in turn, and again; the last visit to a row has the samples of all visits."""
    rows: dict[str, Measured] = {}
    not_measured: list[NotMeasured] = []
    blocks: dict[str, list[Block]] = {plan.case.name: [] for plan in planned}
    started = time.perf_counter()
    for visit in range(VISITS):
        for number, plan in enumerate(planned):
            name, length = plan.case.name, _length(plan, seconds)
            passed_s = time.perf_counter() - started
            earlier = rows.get(name)
            if visit > 0 and (
                passed_s > LIMIT_S or not _worth_a_visit(earlier, visit, length, rig.pace)
            ):
                continue
            done = (visit + number / len(planned)) / VISITS
            within = _part_of(progress, name, done, 1 / len(planned) / VISITS)
            outcome = _attempt(plan, rig, length / 2, within, passed_s, blocks[name])
            if isinstance(outcome, Measured):
                rows[name] = _with_all_disturbances(earlier or outcome, outcome)
            elif visit == 0 or earlier is None:
                not_measured.append(outcome)
            else:
                again = f"it could not be measured again: {outcome.reason}"
                rows[name] = replace(earlier, row=replace(earlier.row, unstable=again))
    return list(rows.values()), not_measured


def _part_of(progress: Progress, name: str, before: float, part: float) -> Progress:
    """The progress of one row as progress of the study."""

    def within(done: float, total: float, note: str = "") -> None:
        progress(before + done / total * part, 1.0, f"{name}: {note}")

    return within


def _length(plan: Planned, seconds: float | None) -> float:
    """How long to measure a row: the longest time of its studies."""
    return seconds or max(SECONDS[name] for name in plan.studies)


def _attempt(
    plan: Planned,
    rig: Rig,
    seconds: float,
    progress: Progress,
    passed_s: float,
    blocks: list[Block],
) -> Measured | NotMeasured:
    """Measure a row, or say why it was not measured."""
    progress(0.0, 1.0, "opening")
    longest_s = max(LONGEST_CALL_S[name] for name in plan.studies)
    try:
        _check_time(passed_s)
        measured = measure_case(plan.case, rig, seconds, longest_s, progress, blocks)
    except DadEdgeError as error:
        return _not_measured(plan, error.message, error.next_step)
    except Exception as error:  # whatever a runtime raises, only its row is lost
        said = str(error).strip().split("\n")[0][:300]
        return _not_measured(plan, f"failed: {type(error).__name__}: {said}", None)
    return replace(measured, row=replace(measured.row, studies=plan.studies))


def _not_measured(plan: Planned, reason: str, next_step: str | None) -> NotMeasured:
    about = plan.case.configuration(plan.studies)
    return NotMeasured(**values_of(about), reason=reason, next=next_step)


def _worth_a_visit(earlier: Measured | None, visit: int, seconds: float, pace: Pace) -> bool:
    """A row that is quick enough is visited twice, and once more if it is not steady."""
    if earlier is None or earlier.row.latency_ms.p50 / 1e3 * FEWEST_STEADY > seconds * VISITS:
        return False
    return visit < VISITS - 1 or earlier.why_unstable(pace) is not None


def _with_all_disturbances(earlier: Measured, last: Measured) -> Measured:
    """The last visit to a row, with what disturbed any of its visits."""
    load = max(earlier.row.load, last.row.load, key=lambda load: load.loaded)
    throttled = tuple(sorted({*earlier.row.throttling, *last.row.throttling}))
    return replace(last, row=replace(last.row, load=load, throttling=throttled))


def _check_time(passed_s: float) -> None:
    if passed_s > LIMIT_S:
        raise DadEdgeError(
            f"left out: the study's {LIMIT_S / 60:g} minutes were over.",
            "run a study with fewer rows, such as 'dad-edge bench --study table4'",
        )


def _layers(bundle: Bundle, peaks: Peaks) -> tuple[LayerProfile, ...]:
    """The bundle's layers on every CPU runtime; one that fails says why."""
    profiles = []
    for profiler in PROFILERS:
        rates = peaks.gflop_per_s("cpu", "fp32"), peaks.gbyte_per_s("cpu")
        try:
            profiles.append(profile_bundle(bundle, profiler, *rates))
        except DadEdgeError as error:
            profiles.append(LayerProfile(engine=profiler, reason=error.message))
        except Exception as error:  # whatever a runtime raises, only its profile is lost
            said = f"failed: {type(error).__name__}: {error}"
            profiles.append(LayerProfile(engine=profiler, reason=said))
    return tuple(profiles)


def _scaling(bundle: Bundle, rows: Sequence[Row]) -> tuple[Sweep, ...]:
    measured = {row.name: row for row in rows}
    device: Device = "cuda" if describe_nvidia()["gpus"] else "cpu"
    return tuple(
        fit_sweep(
            axis,
            [(x, measured[case.name]) for x, case in places if case.name in measured],
            [case.name for _, case in places if case.name not in measured],
        )
        for axis, places in sweeps(bundle, device).items()
    )
