"""One page with a row a product."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment

from dad_edge.files import write_whole
from dad_edge.plant.run import Outcome

PAGE = "index.html"
FIGURES = {
    "image_auroc": "image AUROC",
    "pixel_auroc": "pixel AUROC",
    "pro": "PRO",
    "found": "defects found",
    "rejected": "good parts rejected",
}
"""Figure → title of its column."""


def write_page(outcomes: Sequence[Outcome], out: Path) -> Path:
    """Write the page of a run into its folder.

    Raises:
        StorageError: it cannot be written.
    """
    here = Path(__file__).parent
    style = (here.parent / "report" / "page.css").read_text(encoding="utf-8")
    rows = [
        each.to_mapping()
        | {"done": ", ".join(name for name, state in each.stages.items() if state == "done")}
        for each in outcomes
    ]
    text = (here / "page.html").read_text(encoding="utf-8")
    template = Environment(autoescape=True).from_string(text)
    bad = sum(bool(each.problems) for each in outcomes)
    page = template.render(outcomes=rows, figures=FIGURES, style=style, bad=bad)
    write_whole(out / PAGE, page.encode())
    return out / PAGE
