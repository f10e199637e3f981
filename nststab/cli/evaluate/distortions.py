"""nststab evaluate distortions."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from nststab.cli.common import COUNT, device_options, methods_option, progress, setting, verbosity_options
from nststab.experiments.cli_common import (
    Candidate,
    announce,
    candidates,
    davis_options,
    limit_option,
    optimizer_of,
    optimizing_options,
    output_options,
    size_option,
    sources,
    styles_option,
)
from nststab.experiments.run import davis_digest, digests, experiment

if TYPE_CHECKING:
    from nststab.datasets.folders import DavisSequence
    from nststab.experiments.distortions import DistortionSettings, Region
    from nststab.experiments.results import Parts
    from nststab.frames import Stylizer
    from nststab.measure.stability import FrameLosses

_REMEMBER = ("recurrent", "ruder")  # methods whose result depends on the frame before


@click.command("distortions", short_help="Is the result as robust as its input?")
@davis_options
@styles_option
@methods_option("independent,recurrent")
@setting("--patches", 10, "Patches of background, in turn from every sequence.", COUNT)
@size_option(854)
@limit_option
@optimizing_options
@output_options
@device_options
@verbosity_options
def command(**options: Any) -> None:
    """Distort patches of background and compare SSIM before and after stylization (Gupta et al. 2017, Figure 6).

    A patch c of 256x256 pixels (scaled with --size) is moved by 0 to 19 pixels, blurred and sharpened; SSIM(f(c),
    f(d(c))) stands beside SSIM(c, d(c)). For recurrent and ruder d(c) follows c in a clip of two frames; the other
    methods see each by itself. --limit bounds the frames of each sequence that patches are drawn from.
    """
    from nststab.datasets.folders import davis_sequences
    from nststab.experiments.distortions import SIZE, DistortionSettings, draw_regions, patch_size, row
    from nststab.experiments.distortions_report import draw, table
    from nststab.methods.build import machine, measuring_losses

    settings = DistortionSettings(options["patches"] or DistortionSettings().patches, options["seed"] or 0)
    side = options["size"] or SIZE
    size = patch_size(side)
    styles = sources(options["styles"])
    where = machine(options["device"], options["precision"])
    who = candidates(styles, options["methods"], where, optimizer_of(options))
    sequences = davis_sequences(options["davis"], options["sequences"], side)
    regions = draw_regions(sequences, settings, size, options["limit"])
    losses = {name: measuring_losses(style, options, side, where) for name, style in styles.items()}
    decisive = asdict(settings) | {
        "patch_size": size,
        "sequences": [sequence.name for sequence in sequences],
        "davis": davis_digest(sequences, options["limit"]),
        "styles": digests(styles, options["methods"]),
    }
    with experiment("distortions", options, where, **decisive) as run:
        _announce(run.parts, who, regions, settings, size)
        stylizers = {(one.style, one.method): one.stylizer(side) for one in who}
        found = _measure(run.parts, sequences, regions, settings, size, stylizers, losses)
        rows = [row(*key, key[1] in _REMEMBER, values) for key, values in found.items()]
        places = [region._asdict() for region in regions]
        run.finish(rows, table(rows), lambda figure: draw(figure, rows), (9.0, 3.8), regions=places)


def _part(style: str, method: str, region: "Region", distortion: str, strength: float) -> str:
    return f"{style} {method} {region.name} {distortion} {strength}"


def _announce(
    parts: "Parts",
    who: Sequence[Candidate],
    regions: "Sequence[Region]",
    settings: "DistortionSettings",
    size: int,
) -> None:
    """Says how many patches are left to stylize; f(c) comes again for each d(c) that follows it."""
    work, losses = [], 0
    for one in who:
        missing = [
            sum(not parts.done(_part(one.style, one.method, region, *step)) for step in settings.steps())
            for region in regions
        ]
        losses += sum(missing)
        if one.method in _REMEMBER:
            work.append((one, 2 * sum(missing), sum(missing)))
        else:
            frames = sum(missing) + sum(map(bool, missing))
            work.append((one, frames, frames))
    announce(work, size, size, losses)


def _measure(
    parts: "Parts",
    sequences: "Sequence[DavisSequence]",
    regions: "Sequence[Region]",
    settings: "DistortionSettings",
    size: int,
    stylizers: "Mapping[tuple[str, str], Stylizer]",
    losses: "Mapping[str, FrameLosses]",
) -> "dict[tuple[str, str, str, float], list[Any]]":
    """What was measured of every region, by style, method, distortion and strength; the input is a method, too."""
    from nststab.experiments.distortions import Pairs, distorted, measure
    from nststab.measure.stability import CONTENT, unchanged

    everyone: dict[tuple[str, str], Stylizer] = {}
    for style in losses:
        everyone[style, CONTENT] = unchanged
        everyone |= {key: stylizer for key, stylizer in stylizers.items() if key[0] == style}
    steps = list(settings.steps())
    found: dict[tuple[str, str, str, float], list[Any]] = {(*key, *step): [] for key in everyone for step in steps}
    with progress("distortions", len(regions) * len(steps)) as advance:
        for number, region in enumerate(regions):
            frame = next(one for one in sequences if one.name == region.sequence).frame(region.frame)
            content = distorted("translation", frame, region, size, 0)
            pairs = {key: Pairs(stylizer, content, key[1] in _REMEMBER) for key, stylizer in everyone.items()}
            for index, (distortion, strength) in enumerate(steps):
                patch = distorted(distortion, frame, region, size, strength)
                shift = round(strength) if distortion == "translation" else None
                for key, pair in pairs.items():
                    compute = partial(measure, content, patch, pair, losses[key[0]], shift)
                    name = _part(*key, region, distortion, strength)
                    measured = {"sequence": region.sequence, **parts.get(name, compute)}
                    found[*key, distortion, strength].append(measured)
                advance(number * len(steps) + index + 1)
    return found
