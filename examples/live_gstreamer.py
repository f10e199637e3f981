"""Stylizes frames between two GStreamer pipelines: python examples/live_gstreamer.py WIDTH HEIGHT SOURCE SINK [STYLE]

python examples/live_gstreamer.py 640 360 "v4l2src ! queue leaky=downstream max-size-buffers=1" "ximagesink sync=false"
"""

import sys
from shlex import split
from subprocess import PIPE, Popen

import numpy as np

import nststab


def main(width: int, height: int, source: str, sink: str, style: str = "the_great_wave") -> None:
    """Passes every frame on, 25 a second; the width is a multiple of 4, to which GStreamer pads the rows."""
    caps = f"video/x-raw,format=RGB,width={width},height={height},framerate=25/1"
    reading = f"gst-launch-1.0 -q {source} ! videoconvert ! videoscale ! videorate ! {caps} ! fdsink"
    raw = f"rawvideoparse format=rgb width={width} height={height} framerate=25/1"
    painter = nststab.Painter(style, work_size=256)
    with (
        Popen(split(reading), stdout=PIPE) as frames,
        Popen(split(f"gst-launch-1.0 -q fdsrc ! {raw} ! videoconvert ! {sink}"), stdin=PIPE) as painted,
    ):
        assert frames.stdout is not None
        assert painted.stdin is not None
        while len(data := frames.stdout.read(width * height * 3)) == width * height * 3:
            painted.stdin.write(painter(np.frombuffer(data, np.uint8).reshape(height, width, 3)).tobytes())


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
