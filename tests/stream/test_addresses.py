from __future__ import annotations

import itertools

import pytest

from dad_edge.stream.addresses import has_unclear_password, hide_secrets, without_secrets


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("rtsp://camera:554/live/1", "rtsp://camera:554/live/1"),
        ("rtsp://admin@camera/live", "rtsp://camera/live"),
        ("rtsp://admin:secret@camera:554/live", "rtsp://camera:554/live"),
        ("rtsp://admin:se@cret@camera/live", "rtsp://camera/live"),
        ("rtsp://admin:se%2Fcret@[::1]:554/live", "rtsp://[::1]:554/live"),
        ("http://camera/video.cgi?user=admin&pwd=secret", "http://camera/video.cgi"),
        ("http://camera/video#token=secret", "http://camera/video"),
        ("http://camera/video;token=secret", "http://camera/video"),
        ("rtsp://camera/user=admin&password=secret&channel=1/0.sdp", "rtsp://camera/…/0.sdp"),
        ("http://camera/x?token=se@cret", "http://…"),
        ("admin:secret@camera/live", "…@camera/live"),
        ("gst://rtspsrc location=rtsp://a:secret@b/x ! decodebin", "gst://rtspsrc"),
        ("gst://rtsp://a:secret@b/x", "gst://…"),
        ("gst://v4l2src#000001", "gst://v4l2src"),
        ("gst://", "gst://…"),
        ("parts@night/good", "parts@night/good"),
    ],
)
def test_what_is_shown_of_an_address(uri: str, shown: str) -> None:
    assert without_secrets(uri) == shown


def test_no_password_of_any_characters_is_shown() -> None:
    for signs in itertools.product("#/?@:=&;% \\x", repeat=3):
        password = "q".join(("Q", *signs, "Q"))
        for uri in (f"rtsp://admin:{password}@camera/live", f"rtps://{password}@camera"):
            for text in (without_secrets(uri), without_secrets(uri.replace("://", ":"))):
                assert "q" not in text.lower(), uri


def test_a_password_that_no_player_understands_is_known() -> None:
    assert has_unclear_password("rtsp://admin:se#cret@camera/live")
    assert not has_unclear_password("rtsp://admin:secret@camera/live")


def test_addresses_in_a_message_lose_their_secrets() -> None:
    message = "Invalid value for '--camera': 'rtsp://admin:sec#ret@camera/x' is not an integer."
    assert hide_secrets(message) == ("Invalid value for '--camera': 'rtsp://…' is not an integer.")
    for address in (
        "rtsp://a:q q@b/x",
        "rtsp://a:q'q@b",
        "rtsp:/a:q@b",
        "rtsp//a:q@b",
        "http:a:q@b",
    ):
        assert "q" not in hide_secrets(f"no such option: {address} (in line 1)")
    kept = "see https://example.org/page, demo://?parts=60 or C:/parts; then a@b"
    assert hide_secrets(kept) == kept
