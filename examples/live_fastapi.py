"""Serves painted frames over websockets, JPEG in and out: python examples/live_fastapi.py [PORT]

A client connects to ws://localhost:8000/paint/the_great_wave. It needs fastapi and uvicorn[standard].
"""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import uvicorn
from fastapi import FastAPI, WebSocket

import nststab


async def paint(socket: WebSocket, style: str) -> None:
    """One connection is one stream of frames: it has a painter of its own, which stays in one thread."""
    await socket.accept()
    with ThreadPoolExecutor(1) as thread:
        work = asyncio.get_running_loop().run_in_executor
        painter = await work(thread, lambda: nststab.Painter(style, work_size=256, bgr=True))
        async for jpeg in socket.iter_bytes():
            await socket.send_bytes(await work(thread, painted, painter, jpeg))


def painted(painter: nststab.Painter, jpeg: bytes) -> bytes:
    """The stylized picture; cv2.error for what is none."""
    frame = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    return cv2.imencode(".jpg", painter(np.asarray(frame, np.uint8)))[1].tobytes()


app = FastAPI()
app.add_api_websocket_route("/paint/{style}", paint)


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]) if sys.argv[1:] else 8000)
