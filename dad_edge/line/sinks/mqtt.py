"""Results, states and events for an MQTT broker, as Home Assistant and SCADA systems read them."""

from __future__ import annotations

import json
import ssl
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from dad_edge.errors import StorageError
from dad_edge.line.records import RecordSink
from dad_edge.line.settings import MqttSettings

ONLINE, OFFLINE = "online", "offline"
_PUBLISHED_S = 5.0
"""How long the broker may take to confirm a message."""
_KEEPALIVE_S = 20
"""A client that is silent for half as long again is dead: the broker publishes the last will."""
_CAMERA_STATES = {"online": ONLINE, "offline": OFFLINE}


class MqttSink(RecordSink):
    """Publishes with the broker's confirmation; what is not confirmed is sent again.

    Topics: `<topic>/<line>/status` (online or offline, retained, with a last will),
    `<topic>/<line>/event`, `<topic>/<line>/<camera>/result`, `…/rejected` (ON or OFF, retained)
    and `…/status` (retained).
    """

    name = "mqtt"

    def __init__(self, line: str, settings: MqttSettings) -> None:
        """
        Args:
            line: name of the line.
            settings: of the broker.

        Raises:
            UsageError: the password is not where the settings say.
        """
        self._base = f"{settings.topic.strip('/')}/{line}"
        self._line = line
        self._settings = settings
        self._announced: set[str] = set()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="")
        self._client.on_connect = self._greet
        if settings.username:
            password = settings.password.read() if settings.password is not None else None
            self._client.username_pw_set(settings.username, password)
        if settings.tls:
            self._client.tls_set_context(ssl.create_default_context())
        self._client.will_set(f"{self._base}/status", OFFLINE, qos=1, retain=True)
        self._client.reconnect_delay_set(1, 30)
        self._client.connect_async(settings.host, settings.port, _KEEPALIVE_S)
        self._client.loop_start()

    def take(self, record: dict[str, Any]) -> None:
        camera = record.get("camera", "")
        if record["record"] == "frame":
            self._publish(f"{camera}/result", record)
            self._announce(camera)
            self._publish(f"{camera}/rejected", "ON" if record["rejected"] else "OFF", retain=True)
        else:
            self._publish("event", record)
            if (state := _CAMERA_STATES.get(record.get("kind", ""))) and camera:
                self._publish(f"{camera}/status", state, retain=True)

    def close(self) -> None:
        if self._client.is_connected():
            self._client.publish(f"{self._base}/status", OFFLINE, qos=1, retain=True)
        self._client.disconnect()
        self._client.loop_stop()

    def _greet(self, client: mqtt.Client, *_: object) -> None:
        """Called at every connection, also after the broker was away."""
        client.publish(f"{self._base}/status", ONLINE, qos=1, retain=True)

    def _publish(self, topic: str, value: str | dict[str, Any], *, retain: bool = False) -> None:
        where = f"{self._settings.host}:{self._settings.port}"
        if not self._client.is_connected():
            raise StorageError(
                f"the MQTT broker {where} is not connected.",
                "start it, or correct [sinks.mqtt]; the line goes on meanwhile",
            )
        payload = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        sent = self._client.publish(f"{self._base}/{topic}", payload, qos=1, retain=retain)
        try:
            sent.wait_for_publish(_PUBLISHED_S)
        except (RuntimeError, ValueError) as error:
            raise StorageError(
                f"the MQTT broker {where} took no message: {error}.", "look into its log"
            ) from error
        if not sent.is_published():
            raise StorageError(
                f"the MQTT broker {where} did not confirm a message within {_PUBLISHED_S:.0f} s.",
                "look into its log",
            )

    def _announce(self, camera: str) -> None:
        """Tell Home Assistant of a camera's sensor, once a connection is enough: it is retained."""
        if camera in self._announced or not self._settings.discovery:
            return
        topic = f"{self._base}/{camera}"
        sensor = {
            "name": f"{camera} rejected",
            "unique_id": f"dad-edge-{self._line}-{camera}-rejected",
            "device_class": "problem",
            "state_topic": f"{topic}/rejected",
            "json_attributes_topic": f"{topic}/result",
            "availability_topic": f"{self._base}/status",
            "device": {
                "identifiers": [f"dad-edge-{self._line}"],
                "name": f"dad-edge {self._line}",
                "manufacturer": "dad-edge",
            },
        }
        place = (
            f"{self._settings.discovery.strip('/')}/binary_sensor/dad-edge-{self._line}-{camera}"
        )
        sent = self._client.publish(f"{place}/config", json.dumps(sensor), qos=1, retain=True)
        if sent.rc == mqtt.MQTT_ERR_SUCCESS:
            self._announced.add(camera)
