"""Child processes that run this package and import nothing from the current folder.

Python looks for modules in the current folder first where it is started with `-c` or `-m`: a
`cv2.py` that lies in a folder of images would be run. `multiprocessing` with its method `spawn`
does not help, since it imports itself the same way.
"""

from __future__ import annotations

import sys
from pathlib import Path

_FLAGS = ("-P",) if sys.version_info >= (3, 11) else ()
"""Keeps the current folder out of the path from the first import on."""


def python_command(code: str, *arguments: str) -> list[str]:
    """Command line of a new Python that can import what this process can.

    Args:
        code: what it runs; `sys` is imported.
        arguments: its `sys.argv[1:]`.
    """
    above = str(Path(__file__).resolve().parents[2])
    path = [folder for folder in sys.path if folder]
    if above not in path:
        path.insert(0, above)
    start = f"import sys; sys.path[:] = {path!a}; {code}"
    return [sys.executable, *_FLAGS, "-c", start, *arguments]
