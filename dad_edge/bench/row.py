"""One row of a study: a case is opened, measured, and set beside what the machine can do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from dad_edge.bench.case import Case
from dad_edge.bench.cases import deployed
from dad_edge.bench.cost import total
from dad_edge.bench.measure import (
    Block,
    Samples,
    measure,
    percentiles,
    rounded,
    summary,
)
from dad_edge.bench.pace import Pace, Reading
from dad_edge.bench.result import Percentiles, Row, StageTime, values_of
from dad_edge.bench.roof import Peaks, roof_of
from dad_edge.bench.subject import Subject, case_cost, check_here, open_case
from dad_edge.bundle import Bundle
from dad_edge.errors import DadEdgeError
from dad_edge.image.pictures import Picture
from dad_edge.machine.gpu import describe_nvidia
from dad_edge.machine.load import LoadWatch
from dad_edge.machine.sensors import read_sensors, throttling
from dad_edge.progress import Progress, silent

FRAMES = 16
FRAME_SIDE = 256
LONGEST_OWN_CALL_S = 25.0
"""The bundle is not measured alone where a call is expected to take longer."""
EXPECTED_SHARE = 0.4
"""Share of the peak that a row is expected to reach, before it is measured."""
NETWORK_CALLS = 30
SLOWED = "the machine itself was slower than in the rest of the study"


@dataclass(frozen=True, slots=True)
class Rig:
    """What all rows of a study are measured with."""

    frames: Sequence[Picture]
    """(H,W,3) uint8 BGR, inspected in turn."""
    peaks: Peaks
    """Of the devices."""
    pace: Pace
    """Watches the machine's own speed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A row before its study has ended; only the whole study tells how fast the machine can be."""

    row: Row
    """The row without its roof, the machine's speed and the comparison with PyTorch."""
    speed: Reading | None
    """The machine's speed while it was measured; None where nothing watched it."""

    def why_unstable(self, pace: Pace) -> str | None:
        """Why the figures are not to be quoted, as far as is known yet."""
        if self.row.unstable or self.speed is None:
            return self.row.unstable
        return SLOWED if pace.slowed(self.speed) else None


def draw_frames() -> list[Picture]:
    """Frames of the demo product, the same every time."""
    from dad_edge.data.demo import line

    return [sample.image for sample in islice(line(size=FRAME_SIDE), FRAMES)]


def run_own(bundle: Bundle, seconds: float) -> Row | None:
    """The bundle as it is deployed here, measured alone; None where it cannot run."""
    case = deployed(bundle, "cuda" if describe_nvidia()["gpus"] else "cpu")
    rig = Rig(draw_frames(), Peaks(min(0.5, seconds / 10)), Pace())
    try:
        measured = measure_case(case, rig, seconds, LONGEST_OWN_CALL_S)
    except DadEdgeError:
        return None
    return finish(measured, rig.peaks, rig.pace)


def measure_case(
    case: Case,
    rig: Rig,
    seconds: float,
    longest_s: float,
    progress: Progress = silent,
    blocks: list[Block] | None = None,
) -> Measured:
    """Measure one row.

    Args:
        case: what to measure.
        rig: frames and instruments.
        seconds: how long; more while it is not steady.
        longest_s: a case whose call is expected to take longer is not opened.
        progress: told how far it is.
        blocks: blocks of earlier visits, which count too; new ones are added.

    Raises:
        DadEdgeError: it cannot run here, or is expected to be too slow; the message says why.
    """
    check_here(case)
    _check_expected(case, longest_s, rig.peaks)
    before = read_sensors()
    with open_case(case, rig.frames) as subject, LoadWatch() as watch:
        watched = rig.pace if case.device == "cpu" else None  # a GPU reports its own clock
        samples = measure(subject.call, seconds, progress, watched, blocks)
        networks = _networks_ms(subject, samples, seconds)
    after = read_sensors()
    cost = total(subject.costs)
    row = Row(
        **values_of(case.configuration()),
        **values_of(summary(samples, case.batch * case.cameras)),
        backend=subject.backend,
        threads=subject.threads,
        setup_s=round(subject.setup_s, 3),
        networks_ms=networks,
        stages=_stages(samples, subject),
        gflop=rounded(cost.gflop / case.batch / case.cameras) if cost else None,
        bytes=round(cost.gigabytes(case.precision) * 1e9) if cost else None,
        load=watch.load,
        cpu_mhz=after.cpu_mhz,
        temperature_c=after.temperature_c,
        throttling=throttling(before, after),
    )
    return Measured(row=row, speed=samples.speed)


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


def _networks_ms(subject: Subject, samples: Samples, seconds: float) -> Percentiles | None:
    """Both networks without the steps around them and without host-device copies."""
    if subject.networks is None:
        both = [s["denoise"] + s["segment"] for s in samples.stage_ms if "denoise" in s]
        return percentiles(both) if both else None
    times_ms: list[float] = []
    end = time.perf_counter() + seconds / 2
    subject.networks()
    while len(times_ms) < NETWORK_CALLS and (not times_ms or time.perf_counter() < end):
        start = time.perf_counter()
        subject.networks()
        times_ms.append((time.perf_counter() - start) * 1e3)
    return percentiles(times_ms)


def _stages(samples: Samples, subject: Subject) -> dict[str, StageTime]:
    """Time, share and rate of every step; the shares are of the whole latency."""
    names = samples.stage_ms[0] if samples.stage_ms else {}
    total_ms = sum(samples.latency_ms)
    stages = {}
    for name in names:
        values = [call[name] for call in samples.stage_ms]
        cost = subject.costs.get(name)
        stages[name] = StageTime(
            **values_of(percentiles(values)),
            share=round(sum(values) / total_ms, 4),
            gflop=rounded(cost.gflop) if cost else None,
            gflop_per_s=rounded(cost.gflop * 1e3 / float(np.median(values))) if cost else None,
        )
    return stages


def finish(measured: Measured, peaks: Peaks, pace: Pace, others: Sequence[Row] = ()) -> Row:
    """A row with what is known only at the end of its study.

    By then a machine that was slowed during all of an early row has shown its full speed.

    Args:
        measured: the row.
        peaks: of the devices.
        pace: of the whole study.
        others: rows of the study, for the comparison with PyTorch.
    """
    row, speed = with_roof(measured.row, peaks), measured.speed
    shares = pace.shares(speed) if speed is not None else None
    return replace(
        row,
        machine_speed=shares and {name: rounded(share) for name, share in shares.items()},
        unstable=measured.why_unstable(pace),
        times_eager=times_eager(row, others),
    )


def with_roof(row: Row, peaks: Peaks) -> Row:
    """A row with its roof and the share of it that was reached, where both peaks are known."""
    gflop_per_s = peaks.gflop_per_s(row.device, row.precision)  # type: ignore[arg-type]
    gbyte_per_s = peaks.gbyte_per_s(row.device)  # type: ignore[arg-type]
    if row.gflop is None or row.bytes is None or gflop_per_s is None or gbyte_per_s is None:
        return row
    frames = row.frames_a_call
    roof = roof_of(row.gflop * frames, row.bytes / 1e9, frames, gflop_per_s, gbyte_per_s)
    return replace(
        row,
        roof_fps=rounded(roof.fps),
        arithmetic_fps=rounded(roof.arithmetic_fps),
        memory_fps=rounded(roof.memory_fps),
        share_of_roof=rounded(row.fps / roof.fps),
    )


def times_eager(row: Row, rows: Sequence[Row]) -> float | None:
    """Frames/s of a row ÷ those of the same networks as the authors run them, if there are any."""
    for other in rows:
        authors = other.engine == "PyTorch eager" and other.precision in ("fp32", "tf32")
        if authors and other.is_one_frame and _networks_of(other) == _networks_of(row):
            return rounded(row.fps / other.fps)
    return None


def _networks_of(row: Row) -> tuple[object, ...]:
    return row.method, row.lambdas, row.size, row.image_size
