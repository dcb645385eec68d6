from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dad_edge.documents import read_toml
from dad_edge.errors import ModelError, UsageError
from dad_edge.line.settings import (
    FlaggedSettings,
    JsonLinesSettings,
    MqttSettings,
    PulseSettings,
    Secret,
    SinksSettings,
    StoreSettings,
    VideoSettings,
    WebhookSettings,
)

FULL = """
[jsonl]
megabytes = 10
fsync = "record"
[flagged]
gigabytes = 2
[video]
[mqtt]
host = "broker"
password = {file = "/run/secrets/mqtt"}
[webhook]
url = "https://example.com/hook"
[pulse]
host = "10.0.0.5"
cameras = ["left"]
"""


def test_settings_are_read_from_toml(tmp_path: Path) -> None:
    (tmp_path / "sinks.toml").write_text(FULL)
    settings = read_toml(SinksSettings, tmp_path / "sinks.toml")
    assert settings.jsonl == JsonLinesSettings(megabytes=10, fsync="record")
    assert settings.video == VideoSettings()
    assert settings.mqtt == MqttSettings(host="broker", password=Secret(file="/run/secrets/mqtt"))
    assert settings.pulse is not None
    assert settings.pulse.cameras == ("left",)
    assert SinksSettings().mqtt is None


def test_an_unknown_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "sinks.toml").write_text("[mqtt]\nhost = 'a'\npasword = 'x'\n")
    with pytest.raises(ModelError, match="pasword"):
        read_toml(SinksSettings, tmp_path / "sinks.toml")


@pytest.mark.parametrize(
    "make",
    [
        lambda: JsonLinesSettings(megabytes=0),
        lambda: JsonLinesSettings(files=0),
        lambda: JsonLinesSettings(hours=-1),
        lambda: StoreSettings(days=0),
        lambda: FlaggedSettings(gigabytes=float("nan")),
        lambda: FlaggedSettings(free_gigabytes=-1),
        lambda: VideoSettings(fps=0),
        lambda: MqttSettings(host="a", port=70_000),
        lambda: MqttSettings(host="a", topic="a/#"),
        lambda: MqttSettings(host="a", topic="/"),
        lambda: WebhookSettings(url="ftp://example.com"),
        lambda: WebhookSettings(url="http://a", spool=0),
        lambda: PulseSettings(host="a", unit=256),
        lambda: PulseSettings(host="a", milliseconds=0),
        lambda: Secret(),
        lambda: Secret(file="a", environment="b"),
    ],
)
def test_values_out_of_range_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(UsageError) as caught:
        make()
    assert caught.value.next_step


def test_a_secret_comes_from_its_place_and_is_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    assert Secret(file=str(tmp_path / "secret")).read() == "s3cret"
    monkeypatch.setenv("LINE_SECRET", "from-environment")
    assert Secret(environment="LINE_SECRET").read() == "from-environment"
    (tmp_path / "secret").write_bytes(b"\xff\xfes3cret")
    (tmp_path / "empty").write_text("")
    for secret in (
        Secret(file=str(tmp_path / "secret")),
        Secret(file=str(tmp_path / "empty")),
        Secret(file=str(tmp_path / "missing")),
        Secret(environment="NO_SUCH_LINE_SECRET"),
    ):
        with pytest.raises(UsageError) as caught:
            secret.read()
        assert "s3cret" not in str(caught.value)
