"""Tell a regression from noise between two results of `dad-edge bench`.

Exit code: 0 if at least one row could be compared and none is slower, 1 if a row is slower or has
begun to fail, 2 if the files cannot be compared, 3 if no row could be compared.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dad_edge.bench.result import Row, StudyResult, read_result
from dad_edge.errors import DadEdgeError, UsageError

BETWEEN_RUNS = 0.05
"""A smaller difference between two runs is taken for noise; this limit is an estimate."""


def main(arguments: list[str] | None = None) -> int:
    """Compare the files, print a line for each row, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    chosen = parser.parse_args(arguments)
    try:
        before, after = read_result(chosen.before), read_result(chosen.after)
        verdicts = compare(before, after)
    except DadEdgeError as error:
        print(f"error: {error.message}\nnext: {error.next_step}", file=sys.stderr)
        return 2
    for name, verdict, change in verdicts:
        print(f"{verdict:12} {change:+7.1%} median latency  {name}")
    outcomes = {verdict for _, verdict, _ in verdicts}
    for name, reason in lost(before, after):
        outcomes.add(verdict := "failed" if reason.startswith("failed") else "missing")
        print(f"{verdict:12} {reason}  {name}")
    if outcomes & {"slower", "failed"}:
        return 1
    return 0 if outcomes & {"same", "faster"} else 3


def compare(before: StudyResult, after: StudyResult) -> list[tuple[str, str, float]]:
    """Name, verdict and relative change of median latency of every row in both results.

    Raises:
        UsageError: another device, or no row in common.
    """
    devices = [result.device for result in (before, after)]
    if devices[0] != devices[1]:
        raise UsageError(
            f"measured on different devices: {devices[0]} and {devices[1]}.",
            "compare results of one device",
        )
    old, new = _rows(before), _rows(after)
    shared = [name for name in old if name in new]
    if not shared:
        raise UsageError(
            f"no row in common: {'; '.join(old)} against {'; '.join(new)}.",
            "measure the same size, λ and backend twice",
        )
    return [(name, *_judge(old[name], new[name])) for name in shared]


def lost(before: StudyResult, after: StudyResult) -> list[tuple[str, str]]:
    """Name of every row that only the first result has, and why the second lacks it."""
    reasons = {row.name: row.reason for row in after.not_measured}
    gone = sorted(_rows(before).keys() - _rows(after).keys())
    return [(name, reasons.get(name, "not in the second study")) for name in gone]


def _rows(result: StudyResult) -> dict[str, Row]:
    """The rows by what they measured; the weights and the runtime's version may differ."""
    return {row.name: row for row in result.rows}


def _judge(old: Row, new: Row) -> tuple[str, float]:
    change = new.latency_ms.p50 / old.latency_ms.p50 - 1
    busy = old.load.loaded or new.load.loaded
    if busy or old.unstable or new.unstable:
        return "cannot tell", change
    if old.median_interval_ms is None or new.median_interval_ms is None:
        return "cannot tell", change
    old_low, old_high = old.median_interval_ms
    new_low, new_high = new.median_interval_ms
    if new_low > old_high * (1 + BETWEEN_RUNS):
        return "slower", change
    if new_high < old_low * (1 - BETWEEN_RUNS):
        return "faster", change
    return "same", change


if __name__ == "__main__":
    sys.exit(main())
