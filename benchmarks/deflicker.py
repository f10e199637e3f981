"""What `deflicker` does to a style drawn frame by frame, beside its like, and to planted flicker where truth is known.

python benchmarks/deflicker.py --davis FOLDER --sequences camel,... [--style starry_night] [--frames 24] [--size 384]

Warping errors are measured with DeepFlow, every second pair; deflicker itself follows DIS. `truth`: exposure, white
balance and gamma of the sequence itself are changed at random in each frame; the figure is the PSNR against the
sequence in its mean light.
"""

import argparse
import itertools
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from nststab.flow.estimators import deepflow, dis
from nststab.frames import Frame, as_frames, pictures_of
from nststab.methods.build import Machine, measuring_losses
from nststab.methods.deflicker import Deflicker
from nststab.methods.feed_forward import FeedForward
from nststab.methods.settings import DeflickerSettings
from nststab.metrics import psnr, warping_error
from nststab.networks.settings import PerceptualSettings
from nststab.styles.source import chosen_style
from nststab.video.clip import open_clip
from nststab.warp import reliability

Clip = list[Tensor]
Measure = Callable[[Clip], dict[str, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--davis", type=Path, required=True)
    parser.add_argument("--sequences", required=True)
    parser.add_argument("--style", default="starry_night")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--size", type=int, default=384)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.sequences.split(","):
        folder = options.davis / "JPEGImages" / "480p" / name
        content = list(pictures_of(open_clip(folder, options.size).frames()))[: options.frames]
        print(f"{name}, {options.style}, {len(content)} frames, {options.size} pixels")
        stylized(content, options.style, options.size)
        planted(content)


def stylized(content: Clip, name: str, size: int) -> None:
    style = chosen_style([name], None)
    where = Machine(torch.device("cpu"), "float32")
    losses = measuring_losses(style, PerceptualSettings(), size, where)
    processed = list(pictures_of(FeedForward(style.trained("independent").network)(as_frames(content))))
    measure = measuring(content, processed, lambda frame, own: losses(frame, own)["style"])
    flows = [(dis(a, b), dis(b, a)) for a, b in itertools.pairwise(content)]
    rows: dict[str, Callable[[], Clip]] = {
        "input": lambda: content,
        "independent": lambda: processed,
        "recurrent": lambda: list(pictures_of(FeedForward(style.trained("recurrent").network)(as_frames(content)))),
        "tmedian, 3 frames": lambda: temporal_median(processed),
        "0.9 warped, bicubic": lambda: blended(processed, flows, 0.9),
        "0.97 warped, bicubic": lambda: blended(processed, flows, 0.97),
        "deflicker": lambda: steadied(processed, content, DeflickerSettings()),
        "deflicker, causal": lambda: steadied(processed, content, DeflickerSettings(look_ahead=0)),
        "deflicker, strength 0.8": lambda: steadied(processed, content, DeflickerSettings(strength=0.8)),
        "deflicker, no original": lambda: steadied(processed, None, DeflickerSettings()),
    }
    for row, make in rows.items():
        begun = time.perf_counter()
        made = make()
        seconds = (time.perf_counter() - begun) / len(content)
        figures = " ".join(f"{key} {value:6.2f}" for key, value in measure(made).items())
        print(f"  {row:26} {figures}  {seconds:.2f} s", flush=True)


def measuring(content: Clip, processed: Clip, style: Callable[[Tensor, Tensor], float]) -> Measure:
    """Warping error in dB over 1 and 5 frames, gradient in levels, style loss, likeness to `processed` in dB."""
    pairs = []
    for gap, step in ((1, 2), (5, 4)):
        for t in range(gap, len(content), step):
            backward = deepflow(content[t], content[t - gap])
            mask = reliability(backward, deepflow(content[t - gap], content[t])) > 0.999
            pairs.append((gap, t, backward, mask.float()))

    def measure(made: Clip) -> dict[str, float]:
        figures = {}
        for wanted in (1, 5):
            errors = [warping_error(made[t - g], made[t], flow, mask) for g, t, flow, mask in pairs if g == wanted]
            total = sum(one.error * one.trusted for one in errors if one.trusted)
            figures[f"warp {wanted}"] = -10 * math.log10(total / sum(one.trusted for one in errors))
        figures["gradient"] = 255 * statistics.mean(float((x[..., 1:] - x[..., :-1]).abs().mean()) for x in made)
        chosen = range(2, len(made), 6)
        figures["style"] = statistics.mean(style(made[t], content[t]) for t in chosen)
        figures["last"] = style(made[-1], content[-1])
        like = statistics.mean(psnr(a, b) for a, b in zip(made, processed, strict=True))
        return figures | {"like": like}

    return measure


def steadied(processed: Clip, content: Clip | None, settings: DeflickerSettings) -> Clip:
    frames = [Frame(one, t, content=None if content is None else content[t]) for t, one in enumerate(processed)]
    return list(pictures_of(Deflicker(settings)(frames)))


def temporal_median(frames: Clip) -> Clip:
    triples = zip(frames, frames[1:], frames[2:], strict=False)
    return [frames[0], *(torch.cat(three).median(0, keepdim=True).values for three in triples), frames[-1]]


def blended(frames: Clip, flows: list[tuple[Tensor, Tensor]], share: float) -> Clip:
    """The warped previous result, where it is to be trusted, mixed into each frame."""
    made = frames[:1]
    for frame, (forward, backward) in zip(frames[1:], flows, strict=True):
        height, width = frame.shape[-2:]
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        x = (columns + backward[0, 0]) * 2 / (width - 1) - 1
        y = (rows + backward[0, 1]) * 2 / (height - 1) - 1
        grid = torch.stack([x, y], -1)[None]
        moved = F.grid_sample(made[-1], grid, mode="bicubic", padding_mode="border", align_corners=True)
        made.append(frame + share * reliability(backward, forward) * (moved - frame))
    return [frame.clamp(0, 1) for frame in made]


def planted(content: Clip) -> None:
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
        "tmedian, 3 frames": temporal_median(flickering),
        "deflicker": steadied(flickering, content, DeflickerSettings()),
        "deflicker, causal": steadied(flickering, content, DeflickerSettings(look_ahead=0)),
        "deflicker, no original": steadied(flickering, None, DeflickerSettings()),
    }
    for row, made in rows.items():
        print(f"  truth: {row:26} {statistics.mean(map(psnr, made, truth)):.2f} dB", flush=True)


if __name__ == "__main__":
    main()
