"""Stylizes raw frames between two programs: python examples/live_ffmpeg.py WIDTH HEIGHT [STYLE]

ffmpeg -i clip.mp4 -f rawvideo -pix_fmt rgb24 - | python examples/live_ffmpeg.py 640 360 |
ffmpeg -f rawvideo -pix_fmt rgb24 -s 640x360 -r 25 -i - painted.mp4
"""

import sys

import numpy as np

import nststab


def main(width: int, height: int, style: str = "the_great_wave") -> None:
    """Reads every frame of standard input; `nststab live - -o - --raw` takes the newest alone."""
    painter = nststab.Painter(style, work_size=256)
    while len(data := sys.stdin.buffer.read(width * height * 3)) == width * height * 3:
        sys.stdout.buffer.write(painter(np.frombuffer(data, np.uint8).reshape(height, width, 3)).tobytes())


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
