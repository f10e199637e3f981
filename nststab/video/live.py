"""Frames as they arrive, of a camera, a stream or a clip at its own pace; and a window and a virtual camera for them.

A source is a function that opens it and gives its frames, uint8 RGB (H, W, 3). It raises ConnectionError where it goes
away, after which it may be opened again, and ends where there are no more frames.
"""

import os
import re
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nststab.errors import NststabError
from nststab.video.clip import Clip, needs_av
from nststab.video.images import to_uint8

Picture = NDArray[np.uint8]
Frames = Generator[Picture, None, None]
LiveSource = Callable[[], Frames]
_CAMERA = re.compile(r"(?:/dev/video)?(\d+)")
_WINDOW = 1280  # pixels of a window's longest side at first
_PATIENCE = 10.0  # seconds without a word after which a stream is lost


def opens_live(name: str, size: int | None = None) -> LiveSource | None:
    """The source of a camera's number (0, /dev/video0) or a stream's address (rtsp://...); None for other names.

    size: the longest side that a camera is asked for; it gives the nearest that it has.
    """
    if camera := _CAMERA.fullmatch(name):
        return partial(camera_frames, int(camera[1]), size)
    return partial(stream_frames, name) if "://" in name else None


def camera_frames(camera: int | str, size: int | None = None) -> Frames:
    """Frames of a camera by OpenCV: V4L2 on Linux, AVFoundation on macOS, Media Foundation or DirectShow on Windows."""
    import cv2

    cv2.utils.logging.setLogLevel(
        cv2.utils.logging.LOG_LEVEL_SILENT
    )  # it would tell of each camera that is not there, again and again
    capture = cv2.VideoCapture(camera)
    try:
        if not capture.isOpened():
            raise ConnectionError(f"camera {camera}: there is none, or another program has it")
        if size is not None:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, size)
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size * 9 // 16)
        while True:
            there, frame = capture.read()
            if not there:
                raise ConnectionError(f"camera {camera}: it went away")
            yield np.ascontiguousarray(frame[..., ::-1])
    finally:
        capture.release()


def stream_frames(address: str) -> Frames:
    """Frames of a stream by FFmpeg, as they come; a file of known length, over HTTP, at its own pace."""
    with needs_av():
        import av
    try:
        with av.open(address, timeout=_PATIENCE, options={"fflags": "nobuffer"}) as container:
            if not container.streams.video:
                raise NststabError(f"{address}: there is no video in it")
            pictures: Iterator[Any] = container.decode(video=0)
            decoded = ((frame.time, frame.to_ndarray(format="rgb24")) for frame in pictures)
            if container.duration is not None:
                yield from _paced(decoded)
                return
            yield from (picture for _, picture in decoded)
    except av.FFmpegError as error:
        raise ConnectionError(f"{address}: {error.strerror}") from error
    raise ConnectionError(f"{address}: the stream ended")


def clip_frames(clip: Clip) -> Frames:
    """Frames of a clip: of a file at its own pace, pictures 25 a second, of a pipe as they come."""
    if not clip.is_seekable:
        yield from (to_uint8(frame.rgb) for frame in clip.frames())
        return
    times = ((Fraction(frame.number, 25) if frame.time is None else frame.time, frame) for frame in clip.frames())
    yield from _paced((float(at), to_uint8(frame.rgb)) for at, frame in times)


def _paced(frames: Iterator[tuple[float | None, Picture]]) -> Iterator[Picture]:
    """Frames when the clock has come to their times in seconds."""
    began: float | None = None
    for at, frame in frames:
        if at is not None:
            began = time.monotonic() - at if began is None else began
            time.sleep(max(0.0, began + at - time.monotonic()))
        yield frame


def window_missing() -> str | None:
    """Why no window can be opened here; None where one can.

    It imports OpenCV: after PyAV, whose wheel has an xcb library of its own, its windows hang on Linux.
    """
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "there is no display"
    if sys.platform.startswith("linux") and "av" in sys.modules and "cv2" not in sys.modules:
        return "PyAV was imported before OpenCV, whose windows hang then; import cv2 first"
    try:
        import cv2
    except ImportError as error:
        return f"OpenCV cannot be imported ({error})"
    gui = re.search(r"GUI:\s*(\S+)", cv2.getBuildInformation())
    return None if gui and gui[1] != "NONE" else "this OpenCV was built without windows"


@contextmanager
def window(name: str) -> Iterator[Callable[[Picture | None, str], str | None]]:
    """A function that shows a picture, unless it is None, with a title, and gives the key that was pressed.

    The key is a character, empty for none, and None once the window was closed. It runs in one thread, on macOS the
    process' first.
    """
    import cv2

    cv2.namedWindow(name, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
    is_empty = True

    def show(picture: Picture | None, title: str) -> str | None:
        nonlocal is_empty
        if picture is not None:
            if is_empty:  # else it has a size of its own, whatever it shows
                height, width, _ = picture.shape
                scale = min(1.0, _WINDOW / max(height, width))
                cv2.resizeWindow(name, round(scale * width), round(scale * height))
                is_empty = False
            cv2.imshow(name, np.ascontiguousarray(picture[..., ::-1]))
        cv2.setWindowTitle(name, title)
        key = cv2.waitKey(1)
        if cv2.getWindowProperty(name, cv2.WND_PROP_VISIBLE) < 1:
            return None
        return chr(key & 0xFF) if key >= 0 else ""

    try:
        yield show
    finally:
        cv2.destroyAllWindows()


@contextmanager
def virtual_camera(rate: Fraction) -> Iterator[Callable[[Picture], None]]:
    """A function that shows a picture on a virtual camera, which other programs take for a real one.

    Raises NststabError without pyvirtualcam, and at the first picture where the system has no such device.
    """
    try:
        import pyvirtualcam
    except ImportError as error:
        raise NststabError("a virtual camera needs pyvirtualcam: pip install 'nststab[live]'") from error
    camera: Any = None

    def send(picture: Picture) -> None:
        nonlocal camera
        if camera is None:
            height, width, _ = picture.shape
            try:
                camera = pyvirtualcam.Camera(width, height, float(rate))
            except RuntimeError as error:
                hint = "install v4l2loopback on Linux, OBS elsewhere"
                raise NststabError(f"there is no virtual camera ({' '.join(str(error).split())}); {hint}") from error
        camera.send(picture)

    try:
        yield send
    finally:
        if camera is not None:
            camera.close()
