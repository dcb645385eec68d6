"""Draw accuracy against latency from results of `dad-edge bench` and evaluations.

    python -m benchmarks.plot BENCH.json ... --accuracy REPORT.json ... --out plot.png

An accuracy file is a `report.json` of `dad-edge evaluate` for a bundle, or any result that holds
one. A row without an accuracy is left out; the reason is printed.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.compare import read_result
from dad_edge.bench.plot import Point, accuracies_in, draw_plot, paper_points, points_of
from dad_edge.errors import DadEdgeError, DataError
from dad_edge.image.pictures import write_picture


def main(arguments: list[str] | None = None) -> int:
    """Draw the picture and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--accuracy", type=Path, nargs="+", default=[])
    parser.add_argument("--out", type=Path, default=Path("plot.png"))
    chosen = parser.parse_args(arguments)
    try:
        accuracies = dict(entry for path in chosen.accuracy for entry in accuracies_in(_json(path)))
        points: list[Point] = []
        devices: dict[str, None] = {}
        for path in chosen.results:
            result = read_result(path)
            devices[result["environment"]["device"]] = None
            found, left_out = points_of(result, accuracies)
            points += found
            for reason in left_out:
                print(f"left out: {reason}", file=sys.stderr)
        if not points:
            raise DataError(
                "no row has an accuracy.",
                "evaluate the measured bundle: dad-edge evaluate --data DIR --bundle BUNDLE",
            )
        picture = draw_plot([*points, *paper_points()], " and ".join(devices))
        write_picture(chosen.out, picture)
    except DadEdgeError as error:
        print(f"error: {error.message}\nnext: {error.next_step}", file=sys.stderr)
        return error.exit_code
    print(chosen.out)
    return 0


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}.", "give a JSON file") from error


if __name__ == "__main__":
    sys.exit(main())
