"""What this user's installation made on this machine: digests of the files of engines, in a list.

A bundle comes from elsewhere and says of itself what it likes. The list lies outside of all
bundles.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path

from dad_edge.files import sha256_of

MOST = 10_000
"""Digests that are kept, 65 bytes each."""
_log = logging.getLogger(__name__)


def list_path() -> Path:
    """The file of the list: in ``$XDG_STATE_HOME`` or ``~/.local/state``."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(base) / "dad-edge" / "made-here.txt"


def remember(paths: Iterable[Path]) -> None:
    """Add files to the list; where it cannot be written, a warning says what that means."""
    path = list_path()
    lines = "".join(f"{sha256_of(each)}\n" for each in paths)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.open("a", encoding="ascii") as file:
            file.write(lines)
    except OSError as error:
        _log.warning(
            "%s cannot be written (%s): where signatures are asked for, what was built here counts "
            "as unsigned.",
            path,
            error.strerror,
        )


def made_here() -> frozenset[str]:
    """Digests in the list; the latest ones of a long list."""
    try:
        lines = list_path().read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return frozenset()
    return frozenset(lines[-MOST:])
