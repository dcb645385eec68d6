"""The commands about Triton Inference Server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dad_edge.cli.messages import say
from dad_edge.cli.terminal import BundleOption, JsonOption, chosen_bundle, emit

triton_app = typer.Typer(
    help="Inspection on Triton Inference Server.", no_args_is_help=True, rich_markup_mode=None
)


@triton_app.callback()
def triton_commands() -> None:
    """Inspection on Triton Inference Server."""


@triton_app.command("export")
def export_command(
    repository: Annotated[Path, typer.Option(help="Model repository that Triton serves.")],
    bundle: BundleOption = None,
    name: Annotated[
        str | None, typer.Option(help="Of the model; dad_edge_inspect if left out.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Add a bundle and its engines to a model repository, as the next version of a model."""
    from dad_edge.triton.protocol import MODEL
    from dad_edge.triton.repository import export_version

    folder = export_version(chosen_bundle(bundle), repository, name or MODEL)
    say(f"{folder}: version {folder.name} of {folder.parent.name}")
    if as_json:
        emit({"model": folder.parent.name, "version": int(folder.name)})
