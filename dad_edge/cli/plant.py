"""The commands about many products at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dad_edge.cli.messages import say
from dad_edge.cli.terminal import JsonOption, emit

plant_app = typer.Typer(help="Many products at once.", no_args_is_help=True, rich_markup_mode=None)

ConfigOption = Annotated[Path, typer.Option(help="plant.toml, which lists the products.")]
OutOption = Annotated[Path, typer.Option(help="Folder with one folder for each product.")]


@plant_app.command("check")
def check_command(
    config: ConfigOption = Path("plant.toml"),
    out: OutOption = Path("plant"),
    as_json: JsonOption = False,
) -> None:
    """Say what 'run' would do and why; nothing is begun."""
    from dad_edge.plant.config import read_plant
    from dad_edge.plant.run import plan

    planned = plan(read_plant(config), out)
    for name, stages in planned.items():
        for stage, why in stages.items():
            say(f"{name}: {stage}: {why}")
    if as_json:
        emit(planned)


@plant_app.command("run")
def run_command(
    config: ConfigOption = Path("plant.toml"),
    out: OutOption = Path("plant"),
    as_json: JsonOption = False,
) -> None:
    """Train, export, calibrate, evaluate and build all that changed; exit code 1 below a bar."""
    from dad_edge.files import write_json
    from dad_edge.plant.config import read_plant
    from dad_edge.plant.page import write_page
    from dad_edge.plant.run import run_plant

    outcomes = run_plant(read_plant(config), out, say)
    summary = {"products": [each.to_mapping() for each in outcomes]}
    write_json(out / "plant.json", summary)
    say(f"{write_page(outcomes, out)}")
    if as_json:
        emit(summary)
    if any(each.problems for each in outcomes):
        raise typer.Exit(1)
