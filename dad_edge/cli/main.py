"""The `dad-edge` command: parse, call one function, print."""

from __future__ import annotations

import errno
import sys
from typing import Annotated

import typer

from dad_edge.cli import bundle, deploy, learn, line, plant, service, triton
from dad_edge.cli.messages import say, steady_messages
from dad_edge.cli.terminal import (
    leave_stdout,
    refuse_empty,
    refuse_lost_folder,
    with_web_address,
)
from dad_edge.errors import (
    DadEdgeError,
    DataError,
    DeviceError,
    ReaderLeft,
    StorageError,
    usable_packages,
)
from dad_edge.machine.signals import unwind_on_signals

app = typer.Typer(
    name="dad-edge",
    help="DiffusionAD from a folder of good parts to a real-time inspection line.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


_INTERRUPTED = 130
_NO_MEMORY = "can't allocate memory"
"""What PyTorch says in place of a `MemoryError`."""
_TOLD_OF_INTERRUPT = "error: interrupted.\nnext: run the command again"


@steady_messages()
def main() -> None:
    """Entry point: errors become two lines on stderr and the documented exit code."""
    unwind_on_signals()
    try:
        arguments = with_web_address(sys.argv[1:]) or ["--help"]
        refuse_empty(arguments)
        refuse_lost_folder()
        with usable_packages():
            code = app(arguments, standalone_mode=False)
    except ReaderLeft as error:
        leave_stdout()
        sys.exit(error.exit_code)
    except DadEdgeError as error:
        say(f"error: {error.message}\nnext: {error.next_step}")
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        say(_TOLD_OF_INTERRUPT)
        sys.exit(_INTERRUPTED)
    except SystemExit as end:
        if end.code == 1:  # Typer ends like this when nobody reads its help any more
            leave_stdout()
            sys.exit(ReaderLeft.exit_code)
        say("error: terminated.\nnext: run the command again")
        raise
    except PermissionError as error:
        say(f"error: {error.filename}: permission denied.\nnext: change its owner or permissions")
        sys.exit(DataError.exit_code)
    except OSError as error:
        if error.filename is None and error.errno == errno.ENOSPC:  # help and version, printed
            leave_stdout()
            say(
                "error: cannot write to stdout: the disk is full.\n"
                "next: free some space there, or choose another folder"
            )
            sys.exit(StorageError.exit_code)
        if error.filename is None:  # it concerns no file of the user: a fault of this program
            raise
        reason = (error.strerror or str(error)).lower()
        say(f"error: {error.filename}: {reason}.\nnext: check the path, its disk and its network")
        sys.exit(DataError.exit_code)
    except Exception as error:
        if isinstance(error, MemoryError) or _NO_MEMORY in str(error):
            say(
                "error: the memory of this machine is not enough.\n"
                "next: close other programs, or choose a smaller size, batch_size or fewer tiles"
            )
            sys.exit(DeviceError.exit_code)
        if not hasattr(error, "format_message"):
            raise
        say(f"error: {error.format_message()}\nnext: see 'dad-edge COMMAND --help'")
        sys.exit(2)
    if code == _INTERRUPTED:  # some versions of Typer hand on Ctrl-C like this
        say(_TOLD_OF_INTERRUPT)
    if code:  # the code that a command gave to typer.Exit
        sys.exit(code)


def _print_version(wanted: bool) -> None:
    if wanted:
        from dad_edge.version import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def version_option(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass


for _module in (learn, deploy, line, service):
    for _name, _command in _module.COMMANDS.items():
        app.command(_name)(_command)
app.add_typer(service.service_app, name="service")
app.add_typer(bundle.bundle_app, name="bundle")
app.add_typer(triton.triton_app, name="triton")
app.add_typer(plant.plant_app, name="plant")


if __name__ == "__main__":
    main()
