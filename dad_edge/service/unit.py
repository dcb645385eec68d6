"""A line as a systemd service: the unit file, and what `systemctl` is asked to do with it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from dad_edge.errors import DeviceError, StorageError, UsageError
from dad_edge.files import write_whole

MARKER = "# Written by 'dad-edge service install'; 'dad-edge service remove' takes it away."
SYSTEM_FOLDER = Path("/etc/systemd/system")
WATCHDOG_S = 60
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}", re.ASCII)
_SYSTEMCTL_S = 60.0


@dataclass(frozen=True, slots=True)
class Service:
    """What runs, and for whom."""

    name: str
    """Of the unit, without `.service`."""
    config: Path
    """`line.toml`, absolute."""
    user: bool
    """Whether it belongs to the user who is logged in, not to the system."""
    web: str = ""
    """Address of the page; none if empty."""
    account: str = ""
    """User that a service of the system runs as; root if empty."""
    memory_gib: float = 4.0
    """Above this the service is ended and started again."""
    environment_file: Path | None = None
    """With secrets such as `DAD_EDGE_WEB_TOKEN`."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name.endswith(".service"):
            raise UsageError(
                f"{self.name!r} is no name of a service.", "use letters, digits, '-', '_' and '.'"
            )
        if self.account and not re.fullmatch(r"[a-z_][a-z0-9_-]{0,31}", self.account, re.ASCII):
            raise UsageError(f"{self.account!r} is no user.", "name a user of this system")
        if self.account and self.user:
            raise UsageError(
                "a service of a user runs as this user.", "leave --as out, or add --system"
            )

    @property
    def path(self) -> Path:
        """Of its unit file."""
        folder = user_folder() if self.user else SYSTEM_FOLDER
        return folder / f"{self.name}.service"


def user_folder() -> Path:
    """Folder of the units of the user."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "systemd" / "user"


def unit_of(service: Service, program: list[str]) -> str:
    """The text of the unit file.

    Args:
        service: what runs.
        program: command and arguments of `dad-edge` itself.

    Raises:
        UsageError: a path holds a line end, which no unit can hold.
    """
    command = [*program, "stream", "--config", str(service.config)]
    if service.web:
        command += ["--web", service.web]
    folder = service.config.parent
    account = f"User={service.account}\nSupplementaryGroups=video\n" if service.account else ""
    secrets = (
        f"EnvironmentFile={_setting(str(service.environment_file))}\n"
        if service.environment_file is not None
        else ""
    )
    hardening = "" if service.user else "ProtectSystem=full\nProtectKernelTunables=yes\n"
    return f"""{MARKER}
[Unit]
Description=dad-edge inspects the line {service.name}
Documentation=man:systemd.service(5)
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={" ".join(_argument(part) for part in command)}
WorkingDirectory={_setting(str(folder))}
{account}{secrets}Restart=always
RestartSec=5
TimeoutStartSec=15min
TimeoutStopSec=20
WatchdogSec={WATCHDOG_S}
MemoryMax={service.memory_gib:g}G
TasksMax=512
LimitNOFILE=8192
NoNewPrivileges=yes
{hardening}
[Install]
WantedBy={"default.target" if service.user else "multi-user.target"}
"""


def install(service: Service, program: list[str]) -> None:
    """Write the unit, and start it now and at every start of the machine.

    Raises:
        UsageError: `line.toml` is not there, or another unit has the name.
        DeviceError: systemd is not here or refuses.
        StorageError: the unit cannot be written.
    """
    if not service.config.is_file():
        raise UsageError(f"{service.config} is not there.", "name a line.toml with --config")
    systemctl = _systemctl(service.user)
    _refuse_foreign(service.path)
    write_whole(service.path, unit_of(service, program).encode())
    _run([*systemctl, "daemon-reload"])
    _run([*systemctl, "enable", "--now", f"{service.name}.service"])


def remove(service: Service) -> None:
    """Stop the service and delete its unit.

    Raises:
        UsageError: there is no such service of ours.
        DeviceError: systemd is not here or refuses.
        StorageError: the unit cannot be deleted.
    """
    if not service.path.exists():
        raise UsageError(f"there is no {service.path}.", "see 'dad-edge service status'")
    _refuse_foreign(service.path)
    systemctl = _systemctl(service.user)
    _run([*systemctl, "disable", "--now", f"{service.name}.service"])
    try:
        service.path.unlink()
    except OSError as error:
        raise StorageError(
            f"{service.path} cannot be deleted: {error.strerror}.", "delete it as its owner"
        ) from error
    _run([*systemctl, "daemon-reload"])


def status(service: Service) -> str:
    """What systemd says of the service.

    Raises:
        DeviceError: systemd is not here.
    """
    command = [*_systemctl(service.user), "status", "--no-pager", f"{service.name}.service"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_SYSTEMCTL_S, check=False
    )
    return (done.stdout or done.stderr).strip()


def _systemctl(user: bool) -> list[str]:
    found = shutil.which("systemctl")
    if found is None or not Path("/run/systemd/system").is_dir():
        raise DeviceError(
            "systemd does not run here.",
            "start the line from what starts programs here: dad-edge stream --config line.toml",
        )
    return [found, "--user"] if user else [found]


def _run(command: list[str]) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_SYSTEMCTL_S, check=False
    )
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise DeviceError(
            f"'{' '.join(command)}' failed: {said}",
            "for a service of the system run the command as root; else look at that message",
        )


def _refuse_foreign(path: Path) -> None:
    """A unit that someone else wrote is left alone."""
    try:
        text = path.read_text("utf-8", "replace")
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(
            f"{path} cannot be read: {error.strerror}.", "run the command as its owner"
        ) from error
    if not text.startswith(MARKER):
        raise UsageError(
            f"{path} was not written by dad-edge and is left alone.", "choose another --name"
        )


def _argument(text: str) -> str:
    """A word of a command in a unit: quoted, and with nothing that systemd would expand."""
    safe = _setting(text).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return safe if re.fullmatch(r"[A-Za-z0-9_./:@%+=-]+", safe) else f'"{safe}"'


def _setting(text: str) -> str:
    """The value of a setting in a unit."""
    if re.search(r"[\r\n\0]", text):
        raise UsageError(f"{text!r} holds a line end.", "rename it")
    return text.replace("%", "%%")
