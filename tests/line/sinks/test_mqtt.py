from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from judged_frames import event, judged
from paho.mqtt.enums import CallbackAPIVersion

from dad_edge.errors import StorageError, UsageError
from dad_edge.line.settings import MqttSettings, Secret
from dad_edge.line.sinks.mqtt import MqttSink

BROKER = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
needs_broker = pytest.mark.skipif(BROKER is None, reason="Debian's mosquitto is not installed")


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Broker:
    """A real mosquitto that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        self._config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert BROKER is not None
        command = [BROKER, "-c", str(self._config)]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait_for(self._listens)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _listens(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0


class Listener:
    """What a subscriber of everything hears."""

    def __init__(self, port: int) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = lambda *a: self.heard.append((a[2].topic, a[2].payload))
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert subscribed.wait(60)

    def of(self, topic: str) -> list[bytes]:
        return [payload for heard, payload in self.heard if heard == topic]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    running = Broker(tmp_path)
    running.start()
    yield running
    running.kill()


def taken(sink: MqttSink, number: int, score: float = 0.9) -> bool:
    try:
        sink.write(judged(number, score=score))
    except StorageError:
        return False
    return True


@needs_broker
def test_results_states_and_sensors_arrive(broker: Broker) -> None:
    listener = Listener(broker.port)
    sink = MqttSink("hall-2", MqttSettings(host="127.0.0.1", port=broker.port))
    wait_for(lambda: taken(sink, 1))
    sink.event(event("offline"))
    base = "dad-edge/hall-2"
    wait_for(lambda: bool(listener.of(f"{base}/left/status")))
    assert json.loads(listener.of(f"{base}/left/result")[0])["score"] == 0.9
    assert listener.of(f"{base}/left/rejected") == [b"ON"]
    assert listener.of(f"{base}/left/status") == [b"offline"]
    assert json.loads(listener.of(f"{base}/event")[0])["kind"] == "offline"
    assert listener.of(f"{base}/status") == [b"online"]
    [config] = listener.of("homeassistant/binary_sensor/dad-edge-hall-2-left/config")
    assert json.loads(config)["state_topic"] == f"{base}/left/rejected"
    sink.close()
    wait_for(lambda: listener.of(f"{base}/status")[-1] == b"offline")
    listener.close()


@needs_broker
def test_a_broker_that_comes_back_is_used_again(broker: Broker) -> None:
    sink = MqttSink("line", MqttSettings(host="127.0.0.1", port=broker.port))
    wait_for(lambda: taken(sink, 1))
    broker.kill()
    wait_for(lambda: not taken(sink, 2))
    with pytest.raises(StorageError, match="broker"):
        sink.write(judged(2))
    broker.start()
    listener = Listener(broker.port)
    wait_for(lambda: taken(sink, 3))
    wait_for(lambda: bool(listener.of("dad-edge/line/left/result")))
    sink.close()
    listener.close()


@needs_broker
def test_the_broker_says_so_when_a_line_dies(broker: Broker) -> None:
    listener = Listener(broker.port)
    sink = MqttSink("line", MqttSettings(host="127.0.0.1", port=broker.port))
    wait_for(lambda: listener.of("dad-edge/line/status") == [b"online"])
    connection = sink._client.socket()
    assert connection is not None
    sink._client.reconnect_delay_set(600, 600)
    connection.shutdown(socket.SHUT_RDWR)  # as the kernel does for a process that was killed
    wait_for(lambda: b"offline" in listener.of("dad-edge/line/status"))
    listener.close()
    sink.close()


def test_a_missing_password_is_said_before_anything_is_opened() -> None:
    settings = MqttSettings(
        host="127.0.0.1", username="line", password=Secret(environment="NO_SUCH_VARIABLE_HERE")
    )
    with pytest.raises(UsageError, match="NO_SUCH_VARIABLE_HERE"):
        MqttSink("line", settings)
