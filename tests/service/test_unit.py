from __future__ import annotations

import os
import shutil
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from dad_edge.errors import DadEdgeError, DeviceError, UsageError
from dad_edge.service import unit
from dad_edge.service.unit import MARKER, Service, install, remove, status, unit_of

ANALYZE = shutil.which("systemd-analyze")


def service_in(folder: Path, **more: object) -> Service:
    (folder / "line.toml").touch()
    return Service("hall-2", folder / "line.toml", True, **more)  # type: ignore[arg-type]


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for systemctl that writes down what it is asked."""
    calls = tmp_path / "calls"
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> "{calls}"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(unit, "_systemctl", lambda user: [str(program), "--user"])
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return calls


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("user", [True, False])
@pytest.mark.parametrize("folder", ["line", "hall 2 with spaces", '100%n $HOME "quoted" \\n'])
def test_systemd_finds_nothing_wrong(tmp_path: Path, folder: str, user: bool) -> None:
    (tmp_path / folder).mkdir()
    service = service_in(
        tmp_path / folder, web="127.0.0.1:8080", environment_file=tmp_path / folder / "secrets"
    )
    service = replace(service, user=user, account="" if user else "daemon")
    path = tmp_path / "hall-2.service"
    path.write_text(unit_of(service, ["/bin/true"]))
    assert ANALYZE is not None
    command = [ANALYZE, "verify", *(["--user"] if user else []), str(path)]
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    said = [line for line in done.stderr.splitlines() if "hall-2" in line]
    assert said == []
    assert done.returncode == 0, done.stderr


def test_what_the_unit_says(tmp_path: Path) -> None:
    text = unit_of(service_in(tmp_path, web="127.0.0.1:8080", memory_gib=2.5), ["/opt/dad-edge"])
    assert text.startswith(MARKER)
    config = tmp_path / "line.toml"
    assert f"ExecStart=/opt/dad-edge stream --config {config} --web 127.0.0.1:8080\n" in text
    for line in ("Type=notify", "Restart=always", "WatchdogSec=60", "MemoryMax=2.5G",
                 "StartLimitIntervalSec=0", "WantedBy=default.target"):  # fmt: skip
        assert f"\n{line}\n" in text
    assert "User=" not in text
    system = unit_of(Service("hall-2", config, False, account="line"), ["/opt/dad-edge"])
    assert "\nUser=line\nSupplementaryGroups=video\n" in system
    assert "WantedBy=multi-user.target" in system


def test_words_that_systemd_would_expand_stay_what_they_are(tmp_path: Path) -> None:
    folder = tmp_path / 'a "b" %h $HOME'
    folder.mkdir()
    text = unit_of(service_in(folder), ["/opt/dad edge"])
    assert '"/opt/dad edge"' in text
    assert 'a \\"b\\" %%h $$HOME/line.toml"' in text
    with pytest.raises(UsageError, match="line end"):
        unit_of(Service("a", Path("/a\nExecStartPre=/bin/evil/line.toml"), True), ["/opt/x"])


def test_install_and_remove(tmp_path: Path, systemctl: Path) -> None:
    service = service_in(tmp_path)
    install(service, ["/opt/dad-edge"])
    assert service.path == tmp_path / "config" / "systemd" / "user" / "hall-2.service"
    assert service.path.read_text().startswith(MARKER)
    install(service, ["/opt/dad-edge"])  # again, as after a change
    remove(service)
    assert not service.path.exists()
    assert systemctl.read_text().splitlines() == [
        *["--user daemon-reload", "--user enable --now hall-2.service"] * 2,
        "--user disable --now hall-2.service",
        "--user daemon-reload",
    ]
    with pytest.raises(UsageError, match="there is no"):
        remove(service)


def test_a_unit_of_someone_else_is_left_alone(tmp_path: Path, systemctl: Path) -> None:
    service = service_in(tmp_path)
    service.path.parent.mkdir(parents=True)
    service.path.write_text("[Service]\nExecStart=/bin/theirs\n")
    for change in (lambda: install(service, ["/opt/x"]), lambda: remove(service)):
        with pytest.raises(UsageError, match="left alone"):
            change()
    assert "theirs" in service.path.read_text()
    assert not systemctl.exists()


def test_a_missing_line_and_names_that_are_none_are_refused(
    tmp_path: Path, systemctl: Path
) -> None:
    with pytest.raises(UsageError, match=r"line\.toml"):
        install(Service("hall", tmp_path / "line.toml", True), ["/opt/x"])
    for name in ("", "../evil", "a b", "x.service", "-x", "a/b"):
        with pytest.raises(UsageError, match="no name"):
            Service(name, tmp_path, True)
    with pytest.raises(UsageError, match="no user"):
        Service("a", tmp_path, False, account="root\nUser=other")
    with pytest.raises(UsageError, match="runs as this user"):
        Service("a", tmp_path, True, account="line")


def test_without_systemd_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    service = service_in(tmp_path)
    for change in (lambda: install(service, ["/opt/x"]), lambda: status(service)):
        with pytest.raises(DeviceError, match="systemd does not run here") as caught:
            change()
        assert "dad-edge stream" in caught.value.next_step


def test_a_refusal_of_systemctl_is_told(tmp_path: Path, systemctl: Path) -> None:
    program = systemctl.parent / "bin" / "systemctl"
    program.write_text("#!/bin/sh\necho Access denied >&2\nexit 4\n")
    with pytest.raises(DadEdgeError, match="Access denied"):
        install(service_in(tmp_path), ["/opt/x"])
