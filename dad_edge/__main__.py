"""The `dad-edge` command, also as `python -m dad_edge`."""

import os
import sys


def main() -> None:
    """Start the command, or say which package keeps it from starting."""
    from dad_edge.errors import MissingDependency, usable_packages

    try:
        with usable_packages():
            from dad_edge.cli.main import main as command
    except MissingDependency as error:
        print(f"error: {error.message}\nnext: {error.next_step}", file=sys.stderr)
        sys.exit(error.exit_code)
    command()


def _forget_current_folder() -> None:
    """Import nothing from the current folder, where `python -m` looks first."""
    try:
        current_folder = os.getcwd()
    except FileNotFoundError:  # the folder was removed, so it is not in the path
        return
    if not getattr(sys.flags, "safe_path", False) and sys.path[0] in ("", current_folder):
        del sys.path[0]


if __name__ == "__main__":
    _forget_current_folder()
    main()
