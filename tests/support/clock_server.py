"""An RTSP server whose pictures show when they were made: python3 clock_server.py PORT FPS.

32 blocks across the upper part are the milliseconds since 1970, modulo 2³², highest bit first;
white is 1. The rest is noise that moves, so that there is something to encode.
"""

import random
import sys
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

WIDTH, HEIGHT, BITS = 1280, 720, 32
FPS = int(sys.argv[2])
BLOCK = WIDTH // BITS
NOISE = bytes(random.Random(0).choices(range(256), k=WIDTH * HEIGHT // 2 + WIDTH * 16))

Gst.init(None)


def picture(milliseconds: int) -> bytes:
    bits = [milliseconds >> (BITS - 1 - i) & 1 for i in range(BITS)]
    clock = b"".join((b"\xff" if bit else b"\x00") * BLOCK for bit in bits) * (HEIGHT // 2)
    start = WIDTH * (milliseconds // 40 % 16)
    return clock + NOISE[start : start + WIDTH * HEIGHT // 2]


def configure(_factory: GstRtspServer.RTSPMediaFactory, media: GstRtspServer.RTSPMedia) -> None:
    source = media.get_element().get_child_by_name("clock")

    def push() -> bool:
        now = int(time.time() * 1000) % 2**BITS
        return source.emit("push-buffer", Gst.Buffer.new_wrapped(picture(now))) == Gst.FlowReturn.OK

    GLib.timeout_add(1000 // FPS, push)


server = GstRtspServer.RTSPServer(address="127.0.0.1", service=sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory(shared=True)
factory.set_launch(
    "( appsrc name=clock is-live=true do-timestamp=true format=time "
    f"caps=video/x-raw,format=GRAY8,width={WIDTH},height={HEIGHT},framerate={FPS}/1 "
    "! videoconvert ! x264enc tune=zerolatency speed-preset=ultrafast bitrate=8000 "
    f"key-int-max={FPS} ! rtph264pay name=pay0 )"
)
factory.connect("media-configure", configure)
server.get_mount_points().add_factory("/cam", factory)
server.attach(None)
print("ready", flush=True)
GLib.MainLoop().run()
