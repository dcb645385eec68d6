from __future__ import annotations

import errno
import importlib
import re
import signal
from pathlib import Path

import pytest

from dad_edge import errors
from dad_edge.errors import (
    DadEdgeError,
    DataError,
    Interrupted,
    MissingDependency,
    StorageError,
    require,
    writing,
)


def test_no_terminal_obeys_what_a_file_is_called() -> None:
    found = DataError("\x1b[31mred\r\x07 \u202egnp.part\x9b5n\nsecond\tline ü", "\x1b]0;title\x07")
    assert found.message == r"\x1b[31mred\r\x07 \u202egnp.part\x9b5n" + "\nsecond\tline ü"
    assert found.next_step == r"\x1b]0;title\x07"
    assert errors.printable("\udcfc.png") == r"\xfc.png"


def test_exit_codes_are_documented_and_different() -> None:
    codes = {kind.__name__: kind.exit_code for kind in DadEdgeError.__subclasses__()}
    assert codes.pop("ReaderLeft") == 128 + signal.SIGPIPE
    del codes["Interrupted"]
    codes["DadEdgeError"] = DadEdgeError.exit_code
    assert sorted(codes.values()) == list(range(1, 8))
    documented = dict(re.findall(r"(\w+) +(\d)  ", errors.__doc__ or ""))
    assert documented == {name: str(code) for name, code in codes.items()}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_exits_as_shells_expect(number: signal.Signals, code: int) -> None:
    assert Interrupted("stopped.", "resume", number).exit_code == code


def test_require_imports_what_is_there() -> None:
    assert require("json", "train", "test") is importlib.import_module("json")


@pytest.mark.parametrize("module", ["no_such_package", "no_such_package.part"])
def test_require_names_package_purpose_and_extra(module: str) -> None:
    with pytest.raises(MissingDependency) as caught:
        require(module, "train", "train a detector")
    assert caught.value.message == (
        "package 'no_such_package' is not installed; it is needed to train a detector."
    )
    assert caught.value.next_step == "pip install 'dad-edge[train]'"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise ImportError('libblas.so.3: cannot open shared object file')", "libblas.so.3: "),
        ("raise OSError('cannot load library')", "OSError: cannot load library"),
        ("import broken_package.part", "No module named 'broken_package.part'"),
        ("def", "SyntaxError: invalid syntax"),
    ],
)
def test_require_tells_a_broken_package_from_a_missing_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, reason: str
) -> None:
    (tmp_path / "broken_package").mkdir()
    (tmp_path / "broken_package" / "__init__.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingDependency) as caught:
        require("broken_package", "train", "train")
    assert f"'broken_package' is installed but cannot be imported: {reason}" in caught.value.message
    assert caught.value.message.endswith("; it is needed to train.")
    assert caught.value.next_step == "pip install --force-reinstall broken_package"


def test_a_full_disk_is_named() -> None:
    path = Path("/dev/full")
    full = pytest.raises(StorageError, match="cannot write /dev/full: the disk is full")
    with full as caught, writing(path):
        path.write_text("x")
    assert "free some space" in caught.value.next_step


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EROFS, "the file system is read-only"),
        (errno.EACCES, "permission denied"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_other_reasons_are_named(number: int, reason: str) -> None:
    with pytest.raises(StorageError, match=f"cannot write out.bin: {reason}"), writing("out.bin"):
        raise OSError(number, "Input/output error")


def test_a_file_in_the_way_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    target = tmp_path / "taken" / "out.json"
    with pytest.raises(StorageError, match="a file is in the way"), writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)


def test_other_errors_pass_through() -> None:
    with pytest.raises(ZeroDivisionError), writing("out.bin"):
        _ = 1 / 0


def test_a_message_with_any_file_name_can_be_printed() -> None:
    error = errors.DataError("image a\udcfcü.png is damaged.", "copy a\udcfc.png again")
    assert error.message == str(error) == r"image a\xfcü.png is damaged."
    assert error.next_step == r"copy a\xfc.png again"
