"""DeepFlow against dense inverse search on MPI-Sintel: error, seconds, and the masks that follow from them.

    python benchmarks/flow.py MPI-Sintel [--render final] [--repeat 3]

`error` is the mean end-point error in pixels, of all valid pixels and of those that the next frame still shows; `off`
the share of the latter that is wrong by more than 3 pixels. `trusted` is the share of pixels above 0.5 in the mask,
`error there` their mean error (of those that the next frame shows or not), and `wrong` the share of them that is wrong
by more than 3 pixels. `agrees` is the share of pixels whose mask is on the same side of 0.5 as DeepFlow's.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from torch import Tensor

from nststab.flow.estimators import Estimator, deepflow, dis
from nststab.flow.files import read_flo
from nststab.video.images import read_picture, to_uint8
from nststab.warp import reliability

WRONG = 3.0  # pixels


class Pair(NamedTuple):
    """Two frames (1, 3, H, W), the true flow (1, 2, H, W), and where it is valid and visible, bool (1, 1, H, W)."""

    name: str
    first: Tensor
    second: Tensor
    flow: Tensor
    valid: Tensor
    visible: Tensor


def preset(number: int) -> Estimator:
    """One of OpenCV's presets as it is."""

    def estimate(first: Tensor, second: Tensor) -> Tensor:
        grey = [cv2.cvtColor(to_uint8(frame), cv2.COLOR_RGB2GRAY) for frame in (first, second)]
        method: Any = cv2.DISOpticalFlow.create(number)  # whose types know no None for a flow to start from
        flow = method.calc(grey[0], grey[1], None)
        return torch.from_numpy(flow).permute(2, 0, 1).unsqueeze(0)

    return estimate


METHODS: Mapping[str, Estimator] = {
    "deepflow": deepflow,
    "dis": dis,
    "OpenCV's medium": preset(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM),
    "OpenCV's fast": preset(cv2.DISOPTICAL_FLOW_PRESET_FAST),
    "OpenCV's ultrafast": preset(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sintel", type=Path)
    parser.add_argument("--render", choices=["final", "clean"], default="final")
    parser.add_argument("--repeat", type=int, default=3, help="estimates of each flow; the fastest one counts")
    options = parser.parse_args()
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in METHODS}
    console = Console(width=110)
    for pair in pairs(options.sintel / "training", options.render):
        masks: dict[str, Tensor] = {}
        for name, method in METHODS.items():
            seconds, forward = timed(method, pair, options.repeat)
            masks[name] = reliability(forward, method(pair.second, pair.first)) > 0.5
            figures = measure(pair, forward, masks[name]) | {"seconds": seconds}
            rows[name].append(figures | {"agrees": share(masks[name] == masks["deepflow"])})
        console.print(table(f"{pair.name}, {size(pair)}", {name: made[-1] for name, made in rows.items()}))
    means = {name: {key: statistics.mean(row[key] for row in made) for key in made[0]} for name, made in rows.items()}
    console.print(table(f"mean of {len(rows['dis'])} pairs, {cv2.getNumThreads()} threads", means))


def pairs(folder: Path, render: str) -> Iterator[Pair]:
    """All pairs of frames that have flow."""
    for path in sorted(folder.glob("flow/*/*.flo")):
        sequence, number = path.parent.name, int(path.stem.removeprefix("frame_"))
        frames = [folder / render / sequence / f"frame_{index:04d}.png" for index in (number, number + 1)]
        if all(frame.is_file() for frame in frames):
            bad, hidden = (
                (read_picture(folder / kind / sequence / f"{path.stem}.png").rgb > 0.5).any(1, keepdim=True)
                for kind in ("invalid", "occlusions")
            )
            first, second = (read_picture(frame).rgb for frame in frames)
            yield Pair(f"{sequence} {number}", first, second, read_flo(path), ~bad, ~bad & ~hidden)


def timed(method: Callable[[Tensor, Tensor], Tensor], pair: Pair, repeat: int) -> tuple[float, Tensor]:
    """Seconds of the fastest of several estimates, and the flow."""
    seconds = []
    for _ in range(repeat):
        started = time.perf_counter()
        flow = method(pair.first, pair.second)
        seconds.append(time.perf_counter() - started)
    return min(seconds), flow


def measure(pair: Pair, flow: Tensor, mask: Tensor) -> dict[str, float]:
    error = (flow - pair.flow).square().sum(1, keepdim=True).sqrt()
    trusted = mask & pair.valid
    return {
        "error": float(error[pair.valid].mean()),
        "visible": float(error[pair.visible].mean()),
        "off": share(error[pair.visible] > WRONG),
        "trusted": share(mask),
        "error there": float(error[trusted].mean()),
        "wrong": share(error[trusted] > WRONG),
    }


def share(values: Tensor) -> float:
    return float(values.float().mean())


def size(pair: Pair) -> str:
    height, width = pair.first.shape[-2:]
    return f"{width}x{height}"


def table(title: str, rows: Mapping[str, Mapping[str, float]]) -> Table:
    result = Table(title=title, title_justify="left", box=SIMPLE, pad_edge=False)
    result.add_column(no_wrap=True)
    columns = ("seconds", "error", "visible", "off", "trusted", "error there", "wrong", "agrees")
    for heading in columns:
        result.add_column(heading, justify="right", no_wrap=True)
    percent = {"off", "trusted", "wrong", "agrees"}
    for name, row in rows.items():
        result.add_row(name, *(f"{row[key]:.1%}" if key in percent else f"{row[key]:.2f}" for key in columns))
    return result


if __name__ == "__main__":
    main()
