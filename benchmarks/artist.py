"""The clip and the painting of the afternoon in docs/artist.md, which no network has seen.

python benchmarks/artist.py FOLDER --painting wheat_field.jpg

FOLDER gets phone.mp4, four seconds of 1080p: NASA's portrait of Eileen Collins (scikit-image has it), as if filmed by a
hand that is not still; and own.jpg, the painting with red and green exchanged.
"""

import argparse
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage import data

WIDTH, HEIGHT, RATE, FRAMES = 1920, 1080, 25, 100
HERTZ = (0.23, 0.61, 1.1, 1.9, 3.1)  # of the hand


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--painting", type=Path, required=True)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    red, green, blue = Image.open(given.painting).convert("RGB").split()
    Image.merge("RGB", (green, red, blue)).save(given.output / "own.jpg", quality=92)
    write_clip(given.output / "phone.mp4")


def write_clip(path: Path) -> None:
    picture: NDArray[np.uint8] = data.astronaut()  # type: ignore[no-untyped-call]
    generator = np.random.default_rng(0)
    seconds = np.arange(FRAMES) / RATE

    def swaying(size: float) -> NDArray[np.float64]:
        sway = np.zeros(FRAMES)
        for hertz in HERTZ:
            sway += size * np.sin(2 * np.pi * hertz * seconds + generator.uniform(0, 2 * np.pi)) / (1 + hertz)
        return sway

    across, down = 250 + 8 * seconds + swaying(6), 150 + swaying(5)
    angle, zoom = swaying(0.8), 4.2 + 0.12 * seconds
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", RATE, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for x, y, turned, scale in zip(across, down, angle, zoom, strict=True):
            matrix = cv2.getRotationMatrix2D((x, y), turned, scale)
            matrix[:, 2] += (WIDTH / 2 - x, HEIGHT / 2 - y)
            seen = cv2.warpAffine(
                picture, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
            )
            grain = 2 * generator.standard_normal((HEIGHT, WIDTH, 1))
            frame = np.clip(np.rint(seen + grain), 0, 255).astype(np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        file.mux(stream.encode())


if __name__ == "__main__":
    main()
