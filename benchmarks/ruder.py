"""What the long-term constraint and further passes do to a clip: steadiness beside style and content.

python benchmarks/ruder.py [CLIP] [--style PICTURE] [--frames 8] [--size 160] [-o FOLDER]

Takes the demo clip and The Great Wave by default. Prints for each method: the root mean square change along DeepFlow
between adjacent frames, in levels of 255, where the flow can be trusted; the same where a frame shows what the frame
before it hid and one of the frames 2 and 4 before it showed; style and content loss, unweighted, mean over the frames;
and seconds. Writes the last frames into FOLDER.
"""

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nststab.baselines.gatys import Gatys, GatysSettings
from nststab.baselines.multipass import MultiPass, MultiPassSettings
from nststab.baselines.ruder import Ruder, RuderSettings, long_term_masks
from nststab.flow.estimators import FlowFunction, between_frames, cached, deepflow
from nststab.flow.pairs import FlowPair, flow_ahead
from nststab.frames import Stylizer, as_frames, pictures_of
from nststab.losses import LossSettings, PerceptualLoss, style_target
from nststab.metrics import warping_error
from nststab.networks.perceptual import perceptual_network
from nststab.styles.shipped import demo_clip, find_style
from nststab.vgg import Padding
from nststab.video.clip import open_clip
from nststab.video.images import read_picture, resize, write_picture

DISTANCES = (1, 2, 4)
Pairs = list[Mapping[int, FlowPair]]  # of each frame


def main() -> None:
    """Stylizes the clip in each way and prints a line for each."""
    options = arguments()
    frames = [frame.rgb for frame in islice(open_clip(options.clip, options.size).frames(), options.frames)]
    loss = perceptual_loss(options.style, options.size, "replicate")
    measured = perceptual_loss(options.style, options.size, "zeros")
    with tempfile.TemporaryDirectory() as folder:
        flow = between_frames(cached(deepflow, Path(folder) / "flow", "deepflow"))
        pairs = [pair for _, pair in flow_ahead(as_frames(frames), flow, DISTANCES)]
        reappeared = sum(float(mask.mean()) for mask in map(reappeared_mask, pairs)) / len(pairs)
        height, width = frames[0].shape[-2:]
        print(f"{options.clip.name}, {len(frames)} frames of {width}x{height}, {reappeared:.2%} of the pixels reappear")
        print(f"{'':24}  change  reappeared   style  content  seconds")

        def report(name: str, results: list[Tensor], seconds: float) -> None:
            print(f"{name:24}  {figures(measured, frames, pairs, results)}  {seconds:7.1f}", flush=True)
            if options.output:
                options.output.mkdir(parents=True, exist_ok=True)
                write_picture(options.output / f"{name.replace(' ', '_')}.png", results[-1])

        report("input", frames, 0.0)
        for name, stylizer in single_passes(loss, flow, options).items():
            began = time.perf_counter()
            results = list(pictures_of(stylizer(as_frames(frames))))
            report(name, results, time.perf_counter() - began)
        passes(loss, flow, options, Path(folder) / "passes", frames, report)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path, nargs="?", default=demo_clip(), help="video or folder of pictures")
    parser.add_argument("--style", type=Path, default=find_style("the_great_wave").image)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=160, help="longest side")
    parser.add_argument("--init", choices=["content", "noise"], default="content")
    parser.add_argument("--iterations", type=int, default=60, help="first frame of a single pass, and Gatys' frames")
    parser.add_argument("--later-iterations", type=int, default=20, help="later frames of a single pass")
    parser.add_argument("--passes", type=int, default=5, help="0 leaves multi-pass out")
    parser.add_argument("--pass-iterations", type=int, default=15, help="each frame of a pass")
    parser.add_argument("--blend", type=float, default=MultiPassSettings.blend)
    parser.add_argument("--temporal-from", type=int, help="default: the second half of the passes")
    parser.add_argument("--only-passes", action="store_true", help="leave the single passes out")
    parser.add_argument("-o", "--output", type=Path, help="folder for pictures; must exist")
    return parser.parse_args()


def perceptual_loss(style: Path, side: int, padding: Padding) -> PerceptualLoss:
    """With repeated borders as the methods minimise it, or with zeros as `nststab score` measures it."""
    network, settings = perceptual_network(torch.device("cpu"), padding=padding), LossSettings()
    return PerceptualLoss(
        network, style_target(network, resize(read_picture(style).rgb, side), settings.style_layers), settings
    )


def single_passes(loss: PerceptualLoss, flow: FlowFunction, options: argparse.Namespace) -> dict[str, Stylizer]:
    if options.only_passes:
        return {}
    loop = GatysSettings(options.iterations, init=options.init)
    gatys = Gatys(loss, loop)
    made: dict[str, Stylizer] = {"gatys": gatys}
    for distances in ((1,), DISTANCES):
        settings = RuderSettings(options.later_iterations, long_term=distances)
        made[f"ruder {','.join(map(str, distances))}"] = Ruder(gatys, flow, settings)
    return made


def passes(
    loss: PerceptualLoss,
    flow: FlowFunction,
    options: argparse.Namespace,
    folder: Path,
    frames: list[Tensor],
    report: Callable[[str, list[Tensor], float], None],
) -> None:
    """Reports each pass: the results of one to all of them are the same, so each goes on from the one before."""
    loop = GatysSettings(options.pass_iterations, init=options.init)
    settings = MultiPassSettings(
        options.pass_iterations, options.passes, options.blend, temporal_from=options.temporal_from
    )
    heard, began = 0, time.perf_counter()

    def callback(iteration: int, _: Mapping[str, float]) -> None:
        nonlocal heard
        if iteration == 0:
            number, index = divmod(heard, len(frames))
            heard += 1
            if number and not index:
                report(f"pass {number}", kept_results(folder / "shot_0001", number), time.perf_counter() - began)

    if options.passes:
        results = list(pictures_of(MultiPass(Gatys(loss, loop, callback), flow, settings, folder)(as_frames(frames))))
        report(f"pass {options.passes}", results, time.perf_counter() - began)


def kept_results(shot: Path, number: int) -> list[Tensor]:
    """What a shot's folder holds at the end of a pass."""
    return [torch.from_numpy(np.load(path)) for path in sorted(shot.glob(f"result_*_pass_{number:03d}.npy"))]


def figures(loss: PerceptualLoss, frames: list[Tensor], pairs: Pairs, results: list[Tensor]) -> str:
    adjacent, reappeared = Mean(), Mean()
    for index, flows in enumerate(pairs):
        for distance, mask in zip(flows, reduced_masks(flows), strict=True):
            measured = warping_error(results[index - distance], results[index], flows[distance].backward, mask)
            (adjacent if distance == 1 else reappeared).add(measured.error, measured.trusted)
    with torch.no_grad():
        terms = [loss(result, loss.content_targets(frame)) for frame, result in zip(frames, results, strict=True)]
    style, content = (sum(float(term[name]) for term in terms) / len(terms) for name in ("style", "content"))
    changes = (255 * math.sqrt(mean.value) for mean in (adjacent, reappeared))
    return "{:6.2f}  {:10.2f}".format(*changes) + f"  {style:6.3f}  {content:7.3f}"


class Mean:
    """A weighted mean; NaN without weights."""

    def __init__(self) -> None:
        self._sum = self._weight = 0.0

    def add(self, value: float, weight: float) -> None:
        if weight:
            self._sum += weight * value
            self._weight += weight

    @property
    def value(self) -> float:
        return self._sum / self._weight if self._weight else math.nan


def reappeared_mask(flows: Mapping[int, FlowPair]) -> Tensor:
    """Where a frame farther back is known, and the one before is not: (1, 1, H, W)."""
    return sum(reduced_masks(flows)[1:], torch.zeros(1, 1, 1, 1))


def reduced_masks(flows: Mapping[int, FlowPair]) -> list[Tensor]:
    return long_term_masks([pair.backward_mask for pair in flows.values()]) if flows else []


if __name__ == "__main__":
    main()
