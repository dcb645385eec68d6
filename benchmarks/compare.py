"""Tell a regression from noise between two results of `dad-edge bench`.

Exit code: 0 no row that can be told is slower, 1 a row is slower or has begun to fail, 2 the files
cannot be compared, 3 all figures are too unsure to tell.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from dad_edge.bench.study import SCHEMA_VERSION
from dad_edge.errors import DadEdgeError, DataError, UsageError

BETWEEN_RUNS = 0.05
"""A smaller difference between two runs is taken for noise; an estimate."""

Row = dict[str, Any]


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
    found = {verdict for _, verdict, _ in verdicts}
    for name, reason in lost(before, after):
        found.add(verdict := "failed" if reason.startswith("failed") else "missing")
        print(f"{verdict:12} {reason}  {name}")
    if found & {"slower", "failed"}:
        return 1
    return 0 if found & {"same", "faster"} else 3


def read_result(path: Path) -> Row:
    """A results file of the current schema.

    Raises:
        DataError: it is missing or not such a file.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}.", "give a file of bench --out") from error
    if not isinstance(result, dict) or result.get("schema_version") != SCHEMA_VERSION:
        raise DataError(
            f"{path} is not a bench result of schema {SCHEMA_VERSION}.",
            "measure again with this version: dad-edge bench --out FILE",
        )
    return result


def compare(before: Row, after: Row) -> list[tuple[str, str, float]]:
    """Name, verdict and relative change of median latency of every row in both results.

    Raises:
        UsageError: another device, or no row in common.
    """
    devices = [result["environment"]["device"] for result in (before, after)]
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


def lost(before: Row, after: Row) -> list[tuple[str, str]]:
    """Name of every row that only the first result has, and why the second has it not."""
    reasons = {row["name"]: row["reason"] for row in after["not_measured"]}
    gone = sorted(_rows(before).keys() - _rows(after).keys())
    return [(name, reasons.get(name, "not in the second study")) for name in gone]


def _rows(result: Row) -> dict[str, Row]:
    """The rows by what they measured; the weights and the runtime's version may differ."""
    return {row["name"]: row for row in result["rows"]}


def _judge(old: Row, new: Row) -> tuple[str, float]:
    change = new["latency_ms"]["p50"] / old["latency_ms"]["p50"] - 1
    ends = old["median_interval_ms"], new["median_interval_ms"]
    busy = old["load"]["loaded"] or new["load"]["loaded"]
    if busy or old["unstable"] or new["unstable"] or None in ends:
        return "cannot tell", change
    (old_low, old_high), (new_low, new_high) = ends
    if new_low > old_high * (1 + BETWEEN_RUNS):
        return "slower", change
    if new_high < old_low * (1 - BETWEEN_RUNS):
        return "faster", change
    return "same", change


if __name__ == "__main__":
    sys.exit(main())
