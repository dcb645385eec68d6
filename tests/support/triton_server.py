"""A real Triton Inference Server on this machine, as the wheel of PyTriton carries it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest

WHEEL = "nvidia-pytriton==0.7.0"
PLACE = "DAD_EDGE_TEST_TRITON"
"""Variable of the environment: folder with a virtual environment that has the wheel."""


def unpacked() -> Path:
    """Folder of the packages that the wheel brings; skips the test where it is not there."""
    named = os.environ.get(PLACE)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    place = Path(named or "none") / "lib" / version / "site-packages"
    if not (place / "pytriton" / "tritonserver").is_dir():
        pytest.skip(f"{PLACE} names no virtual environment with {WHEEL}")
    return place


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class TritonServer:
    """One server on a repository; its models use the packages of these tests."""

    def __init__(self, repository: Path, folder: Path, options: Sequence[str] = ()) -> None:
        self.repository = repository
        self._options = options
        self._regions = f"triton-test-{uuid.uuid4().hex}"
        self._packages = unpacked()
        folder.mkdir(exist_ok=True)
        self._log = folder / "triton.log"
        self._backends = folder / "backends"
        self.port, self.http_port = free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None
        served = self._packages / "pytriton" / "tritonserver"
        shutil.copytree(served / "backends", self._backends)
        stub = f"{sys.version_info.major}.{sys.version_info.minor}/triton_python_backend_stub"
        shutil.copy(served / "python_backend_stubs" / stub, self._backends / "python")
        self._binary = served / "bin" / "tritonserver"

    @property
    def address(self) -> str:
        return f"triton://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def start(self) -> None:
        """Start and wait until it answers."""
        root = Path(__file__).parents[2]
        libraries = [self._packages / "nvidia_pytriton.libs", sysconfig.get_config_var("LIBDIR")]
        environment = {
            **os.environ,
            "PATH": os.pathsep.join([str(Path(sys.prefix) / "bin"), os.environ["PATH"]]),
            "VIRTUAL_ENV": sys.prefix,
            "PYTHONPATH": str(root),
            "PYTHONDONTWRITEBYTECODE": "1",
            "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries)),
            "OMP_NUM_THREADS": "1",
        }
        options = [
            f"--model-repository={self.repository}",
            f"--backend-directory={self._backends}",
            f"--grpc-port={self.port}",
            f"--http-port={self.http_port}",
            "--allow-metrics=false",
            "--model-control-mode=poll",
            "--repository-poll-secs=1",
            "--exit-on-error=false",
            "--exit-timeout-secs=5",
            f"--backend-config=python,shm-region-prefix-name={self._regions}",
            *self._options,
        ]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [self._binary, *options],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.wait_for(lambda: "Started HTTPService" in self.log)

    def wait_for(self, condition: object, seconds: float = 90.0) -> None:
        """Wait until something is so, for as long as the server runs."""
        end = time.monotonic() + seconds
        while not condition():  # type: ignore[operator]
            assert self.process is not None
            assert self.process.poll() is None, self.log[-3000:]
            assert time.monotonic() < end, self.log[-3000:]
            time.sleep(0.05)

    def kill(self) -> None:
        """End it and the processes of its models as a power cut does."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for left in Path("/dev/shm").glob(f"{self._regions}*"):
            left.unlink(missing_ok=True)

    def stop(self) -> None:
        """End it, if it runs; a server that is asked to waits for its exit timeout."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
