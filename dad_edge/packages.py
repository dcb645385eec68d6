"""Packages that this one needs: which cannot be imported, why, and what repairs it."""

from __future__ import annotations

import dis
import importlib
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from types import CodeType, FrameType, ModuleType

CORE = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "jinja2": "jinja2",
    "msgspec": "msgspec",
    "numpy": "numpy",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "rich": "rich",
    "tomli": "tomli",
    "typer": "typer",
}
"""Module → distribution of what every installation has."""

INSTALL_CORE = "pip install dad-edge"
"""Installs what is missing of it."""

OPENCV = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
"""Distributions that own the module `cv2`; of several, the one that was installed last is there."""

_DEBIAN_PACKAGE = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libSM.so.6": "libsm6",
    "libX11.so.6": "libx11-6",
    "libXext.so.6": "libxext6",
    "libXrender.so.1": "libxrender1",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libgomp.so.1": "libgomp1",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libopenblas.so.0": "libopenblas0",
    "libstdc++.so.6": "libstdc++6",
}


def load(module: str) -> ModuleType:
    """Import a module of another package, and make sure that more than a folder is left of it.

    Raises:
        ImportError: there is only a folder without a package in it, such as `pip uninstall` leaves.
        and whatever the package raises while it is imported.
    """
    loaded = importlib.import_module(module)
    if _is_hull(loaded):
        raise ImportError(f"only the folder {next(iter(loaded.__path__))} is left", name=module)
    return loaded


def failed_import(error: BaseException) -> str | None:
    """The other package whose import raised an error.

    An error that our own code raises, also an `ImportError`, has no other package's import on its
    way; nor has a wrong name in a `from ... import`, since the package itself was imported by then.

    Returns:
        Top-level name of the package; None for any other error.
    """
    imports = list(_imports_on_the_way(error))
    for _, package in reversed(imports):  # where packages import each other, the one that failed
        if not is_absent(package):
            return package
    if imports:
        importer, package = imports[-1]
        is_misspelt = package not in CORE and importer in ("dad_edge", "importlib")
        return None if is_misspelt else package
    named = getattr(error, "obj", None) or sys.modules.get(getattr(error, "name", None) or "")
    if isinstance(named, ModuleType) and _is_hull(named):
        return named.__name__.partition(".")[0]
    return None


def is_absent(package: str) -> bool:
    """Whether nothing of a top-level package is installed."""
    try:
        return find_spec(package) is None
    except (ImportError, ValueError):  # a module that is half imported has no spec
        return False


def is_part_of_installed(module: str) -> bool:
    """Whether a module that was not found belongs to a package that is there, but is not whole."""
    package, dot, _ = module.partition(".")
    try:
        spec = find_spec(package) if dot else None
    except (ImportError, ValueError):
        return True
    return spec is not None and spec.origin is not None  # a folder of several owners has none


def reason_of(error: BaseException) -> str:
    """One line on why an import failed."""
    text = str(error).strip()
    if match := re.search(r"Original error was: *(.+)", text):  # NumPy's, below a page of advice
        text = match.group(1)
    line = text.splitlines()[0].strip().rstrip(".:") if text else "no reason given"
    return line if isinstance(error, ImportError) else f"{type(error).__name__}: {line}"


def repair_of(package: str, reason: str = "") -> str:
    """Command that repairs a package that is installed but cannot be imported.

    Args:
        package: top-level name of the module.
        reason: why it cannot be imported.
    """
    if match := re.search(r"(lib[\w+.-]+\.so[\w.]*): cannot open shared object", reason):
        library = match.group(1)
        if debian := _DEBIAN_PACKAGE.get(library):
            return f"sudo apt-get install {debian}, or the package that has {library} elsewhere"
    owners = distributions_of(package)
    if package == "cv2" and len(owners) > 1:
        core = CORE["cv2"]
        return f"pip uninstall -y {' '.join(owners)} && pip install --force-reinstall {core}"
    return f"pip install --force-reinstall {' '.join(owners)}"


def distributions_of(package: str) -> list[str]:
    """Installed distributions that own a top-level module; the usual one where none is known."""
    if package == "cv2":
        names = [name for name in OPENCV if _is_installed(name)]
    else:
        names = sorted(set(metadata.packages_distributions().get(package, ())))
    return names or [CORE.get(package, package)]


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def _is_hull(module: ModuleType) -> bool:
    """Whether a module is a folder without `__init__.py`."""
    return hasattr(module, "__path__") and getattr(module, "__file__", None) is None


def _imports_on_the_way(error: BaseException) -> Iterator[tuple[str, str]]:
    """Importer and imported package of every import that an error ended, outermost first."""
    step = error.__traceback__
    while step is not None:
        importer = str(step.tb_frame.f_globals.get("__name__")).partition(".")[0]
        package = _imported_at(step.tb_frame, step.tb_lasti).partition(".")[0]
        if package and package != "dad_edge" and package not in sys.stdlib_module_names:
            yield importer, package
        step = step.tb_next


def _imported_at(frame: FrameType, position: int) -> str:
    """Full name of the module that a frame was importing, empty if it did something else."""
    code: CodeType = frame.f_code
    if code is importlib.import_module.__code__:
        return str(frame.f_locals["name"])
    steps = [step for step in dis.get_instructions(code) if step.opname != "EXTENDED_ARG"]
    for index, step in enumerate(steps):
        if step.offset == position and step.opname == "IMPORT_NAME":
            is_relative = steps[index - 2].argval != 0
            return str(frame.f_globals["__name__"] if is_relative else step.argval)
    return ""
