"""Stylizes a camera in OpenCV's own loop, until a key is pressed: python examples/live_opencv.py CAMERA [STYLE]"""

import sys

import cv2
import numpy as np

import nststab


def main(camera: str, style: str = "the_great_wave") -> None:
    """Shows what the camera of a number, or a video file, gives."""
    painter = nststab.Painter(style, work_size=256, bgr=True)  # OpenCV's frames are BGR
    capture = cv2.VideoCapture(int(camera) if camera.isdecimal() else camera)
    while cv2.waitKey(1) < 0:
        there, frame = capture.read()
        if not there:
            break
        cv2.imshow("nststab", painter(np.asarray(frame, np.uint8)))


if __name__ == "__main__":
    main(*sys.argv[1:])
