"""The commands of an unattended line: service, export-marks."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dad_edge.cli.messages import say
from dad_edge.cli.terminal import JsonOption, emit

if TYPE_CHECKING:
    from dad_edge.service.unit import Service

service_app = typer.Typer(
    help="A line as a systemd service.", no_args_is_help=True, rich_markup_mode=None
)
NameOption = Annotated[str, typer.Option(help="Of the service.")]
SystemOption = Annotated[
    bool, typer.Option("--system", help="A service of the system; by default of this user.")
]
DEFAULT_NAME = "dad-edge-line"


@service_app.command("install")
def install_command(
    config: Annotated[Path, typer.Option(help="line.toml of the line.")],
    name: NameOption = DEFAULT_NAME,
    system: SystemOption = False,
    web: Annotated[str, typer.Option(metavar="HOST:PORT", help="Show the page there.")] = "",
    account: Annotated[
        str, typer.Option("--as", help="User that a service of the system runs as.")
    ] = "",
    environment_file: Annotated[
        Path | None, typer.Option(help="File with secrets such as DAD_EDGE_WEB_TOKEN.")
    ] = None,
    memory_gib: Annotated[
        float, typer.Option(min=0.5, help="Above this the service is started again.")
    ] = 4.0,
    show: Annotated[bool, typer.Option("--show", help="Print the unit and do no more.")] = False,
) -> None:
    """Write a systemd unit, and start it now and whenever the machine starts."""
    from dad_edge.service.unit import Service, install, unit_of

    service = Service(
        name,
        config.absolute(),
        not system,
        web=web,
        account=account,
        memory_gib=memory_gib,
        environment_file=environment_file.absolute() if environment_file else None,
    )
    program = shutil.which("dad-edge", path=os.path.dirname(sys.executable)) or sys.argv[0]
    if show:
        typer.echo(unit_of(service, [os.path.abspath(program)]), nl=False)
        return
    install(service, [os.path.abspath(program)])
    say(f"{service.path} is written, and the service {name} runs.")
    if service.user:
        say("It runs while you are logged in; for always: loginctl enable-linger")


@service_app.command("status")
def status_command(name: NameOption = DEFAULT_NAME, system: SystemOption = False) -> None:
    """Say how the service does."""
    from dad_edge.service.unit import status

    typer.echo(status(_named(name, system)))


@service_app.command("remove")
def remove_command(name: NameOption = DEFAULT_NAME, system: SystemOption = False) -> None:
    """Stop the service and delete its unit; results stay."""
    from dad_edge.service.unit import remove

    service = _named(name, system)
    remove(service)
    say(f"the service {name} is stopped, and {service.path} deleted.")


def _named(name: str, system: bool) -> Service:
    from dad_edge.service.unit import Service

    return Service(name, Path("line.toml").absolute(), not system)


def export_marks_command(
    results: Annotated[Path, typer.Option(help="Folder of the line's results.")],
    out: Annotated[Path, typer.Option(help="Folder of the data set.")],
    as_json: JsonOption = False,
) -> None:
    """Make a data set of the parts that were marked on the page, for calibrate and train."""
    from dataclasses import asdict

    from dad_edge.line.marks import export_marks

    done = export_marks(results, out)
    if as_json:
        emit(asdict(done))
    else:
        say(f"{done.fine} parts that were fine, {done.defects} defects, {done.new} of them new.")
        if done.gone:
            say(f"{done.gone} marked parts have no picture any more: mark them sooner, or keep "
                "more in [sinks.flagged].")  # fmt: skip
        say(f"next: dad-edge calibrate --data {out}")


COMMANDS = {"export-marks": export_marks_command}
