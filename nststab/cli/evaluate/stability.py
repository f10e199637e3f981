"""nststab evaluate stability."""

import itertools
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nststab.cli.common import (
    COUNT,
    OPTIMISERS,
    device_options,
    given,
    methods_option,
    named,
    progress,
    setting,
    verbosity_options,
)
from nststab.cli.html import check_html, html_options
from nststab.errors import NststabError
from nststab.experiments.cli_common import (
    Candidate,
    announce,
    candidates,
    counting,
    davis_options,
    limit_option,
    optimizer_of,
    optimizing_options,
    output_options,
    size_option,
    sources,
    styles_option,
)
from nststab.experiments.run import Run, davis_digest, digests, experiment

if TYPE_CHECKING:
    from torch import Tensor

    from nststab.baselines.gatys import Keep
    from nststab.datasets.folders import DavisSequence
    from nststab.experiments.stability_scenes import KeptFrames, Prepared, Scenes
    from nststab.flow.estimators import FlowFunction
    from nststab.measure.stability import StabilitySettings
    from nststab.methods.build import IterationReport, OptimizerOptions
    from nststab.metrics import Patches
    from nststab.styles.source import StyleSource

_Measured = dict[str, dict[str, dict[str, Any]]]  # figures by style, sequence and method


@click.command("stability", short_help="Table 1: PSNR and SSIM of corresponding patches.")
@davis_options
@styles_option
@methods_option("independent,recurrent")
@setting("--patches", 1, "Patches of each pair of frames.", COUNT)
@size_option(432)
@limit_option
@optimizing_options
@html_options
@output_options
@device_options
@verbosity_options
def command(**options: Any) -> None:
    """Table 1 of Gupta et al. 2017: do background patches of adjacent frames look alike after stylization?

    For each pair of frames a random patch without foreground and the patch of the next frame that resembles it most:
    100x100 within 20 pixels in frames of 854, scaled to --size. PSNR and SSIM between the stylized patches; the input's
    own are the ceiling. Intervals are bootstrapped over sequences. Stability counts only beside the style and content
    loss of the same frames (of ten in each sequence): three ways to be stable without being good are measured as well.

    --html writes a report that can be sent to anyone: the sequences in step, their curves, what is steady and what is
    not.
    """
    check_html(options, made=Path(options["output"]))
    from nststab.datasets.folders import davis_sequences
    from nststab.experiments import table1
    from nststab.measure.rows import DAVIS_SIZE, LOSS_FRAMES, style_rows
    from nststab.measure.stability import StabilitySettings
    from nststab.methods.build import machine

    settings = StabilitySettings(**given(patches=options["patches"], seed=options["seed"]))
    size = options["size"] or DAVIS_SIZE
    sequences = davis_sequences(options["davis"], options["sequences"], size)
    clips = [_Clip(sequence, options["limit"]) for sequence in sequences]
    for clip in clips:
        if clip.frames < 2:
            raise click.UsageError(f"{clip.name}: expected a sequence of at least two frames, got one")
        settings.fitting(*clip.shape)
    styles = sources(options["styles"])
    where, optimizer = machine(options["device"], options["precision"]), optimizer_of(options)
    who = candidates(styles, options["methods"], where, optimizer)
    report = _prepared(styles, optimizer, options)
    cheated = next((method for method in options["methods"] if method not in OPTIMISERS), options["methods"][0])
    decided = {
        "patch_size": settings.of_frames(size, size).size,
        "radius": settings.of_frames(size, size).radius,
        "loss_frames": LOSS_FRAMES,
        "sequences": {clip.name: clip.frames for clip in clips},
        "davis": davis_digest(sequences, options["limit"]),
        "styles": digests(styles, options["methods"]),
        "cheats_of": cheated,
    }
    with experiment("stability", options, where, **decided) as run:
        work = _Measurement(run, settings, options, cheated, _kept(run, options))
        if not any(len(pair.previous) for clip in clips for pair in work.patches(clip)):
            size = decided["patch_size"]
            raise NststabError(
                f"expected room for a patch of {size}x{size} pixels without foreground, found none; try a "
                "larger --size, or other --sequences"
            )
        measured = work.of(who, clips)
        rows = [row for style, sequences in measured.items() for row in style_rows(style, sequences, run.seed)]
        means, gain = table1.mean_rows(rows, run.seed), table1.gain(rows, run.seed)
        table = table1.table(rows, means, gain, cheated)
        run.finish(
            rows,
            table,
            lambda figure: table1.draw(figure, rows, means),
            table1.figure_inches(rows),
            means=means,
            gain=gain,
            units=table1.UNITS,
        )
        if report is not None:  # last: the results are there whatever becomes of it
            from nststab.experiments.stability_scenes import write_stability_report

            scenes = work.scenes(who, clips, report.flow)
            settings_said = {**run.settings, "flow_method": report.flow_name}
            write_stability_report(scenes, report.styles, rows, means, table, settings_said)


class _Clip:
    """The first frames of a sequence: all, or `limit`."""

    def __init__(self, sequence: "DavisSequence", limit: int | None) -> None:
        self._sequence = sequence
        self.name = sequence.name
        self.frames = min(len(sequence), limit or len(sequence))
        height, width = next(self.content()).shape[-2:]
        self.shape: tuple[int, int] = height, width

    def content(self) -> "Iterator[Tensor]":
        return itertools.islice(self._sequence.frames(), self.frames)

    def foreground(self) -> "Iterator[Tensor]":
        return self._sequence.masks()


@dataclass(frozen=True)
class _Measurement:
    """What is measured of each style, method and sequence, part by part."""

    run: Run
    settings: "StabilitySettings"
    options: Mapping[str, Any]
    cheated: str
    kept: "KeptFrames | None"

    def of(self, who: "Sequence[Candidate]", clips: Sequence[_Clip]) -> _Measured:
        """All figures by style, sequence and method, those of finished parts and those that are made now."""
        from nststab.measure.rows import LOSS_FRAMES

        todo = [(one, clip) for one in who for clip in clips if not self.run.parts.done(_part(one, clip))]
        left = [(one, [clip.frames for other, clip in todo if other is one]) for one in who]
        height, width = clips[0].shape
        # of each frame the result's and the input's, and those of two cheats
        losses = sum((4 if one.method == self.cheated else 2) * min(LOSS_FRAMES, clip.frames) for one, clip in todo)
        announce([(one, sum(frames), len(frames)) for one, frames in left], width, height, losses)
        measured: _Measured = {}
        with progress("stability", sum(clip.frames for _, clip in todo)) as advance:
            counted = counting(advance)

            def iteration(number: int, terms: dict[str, float]) -> None:
                advance(note=f"{number}: {named(terms)}")

            for one, clip in itertools.product(who, clips):
                compute = partial(self._figures, one, clip, counted, iteration)
                found = self.run.get(_part(one, clip), one.method, compute)
                measured.setdefault(one.style, {}).setdefault(clip.name, {}).update(found)
        return measured

    def _figures(
        self,
        one: Candidate,
        clip: _Clip,
        counted: "Callable[[Iterator[Tensor]], Iterator[Tensor]]",
        report: "IterationReport",
        keep: "Keep | None",
    ) -> dict[str, Any]:
        """Of a candidate on a clip, of the input, and of the cheats if they are made of this candidate."""
        from nststab.frames import as_frames, pictures_of
        from nststab.measure.copies import copies
        from nststab.measure.rows import LOSS_FRAMES
        from nststab.measure.stability import measure, sanity_checks, spread
        from nststab.methods.build import measuring_losses

        content, copied, given_in = copies(clip.content(), 3)
        stylized = counted(pictures_of(one.stylizer(max(clip.shape), report, keep)(as_frames(given_in))))
        if self.kept is not None:
            stylized = self.kept.keep(_part(one, clip), stylized)
        made, again = copies(stylized, 2)
        cheats = sanity_checks(copied, again) if one.method == self.cheated else {}
        del copied, again  # or, without cheats, they would hold every frame
        rows = measure(
            content,
            {one.method: made, **cheats},
            self.settings,
            frame_losses=measuring_losses(one.source, self.options, max(clip.shape), one.where),
            patches=self.patches(clip),
            loss_frames=spread(clip.frames, LOSS_FRAMES),
        )
        return {name: row.as_row() for name, row in rows.items()}

    def scenes(self, who: "Sequence[Candidate]", clips: Sequence[_Clip], flow: "FlowFunction") -> "Scenes":
        """What makes the scenes of the report."""
        from nststab.experiments.stability_scenes import Scenes

        assert self.kept is not None
        candidates = {(one.style, one.method): one for one in who}

        def made(style: str, method: str, clip: Any) -> "Iterator[Tensor]":
            one = candidates[style, method]
            assert self.kept is not None
            return self.kept.read(_part(one, clip), clip.frames, lambda: self._again(one, clip))

        styles, methods = list(dict.fromkeys(one.style for one in who)), self.options["methods"]
        return Scenes(clips, styles, methods, made, self.patches, self.settings, flow, self.options)

    def _again(self, one: Candidate, clip: _Clip) -> "Generator[Tensor, None, None]":
        """What a candidate makes of a clip; after a kill an optimisation goes on here as well."""
        from nststab.frames import as_frames, pictures_of

        if one.method not in OPTIMISERS:
            yield from pictures_of(one.stylizer(max(clip.shape))(as_frames(clip.content())))
            return
        with self.run.keeping(_part(one, clip)) as keep:
            yield from pictures_of(one.stylizer(max(clip.shape), keep=keep)(as_frames(clip.content())))

    def patches(self, clip: _Clip) -> "list[Patches]":
        """Those of each pair, searched for once: they are the same for all styles and methods."""
        import torch

        from nststab.measure.stability import find_patches
        from nststab.metrics import Patches

        def find() -> list[Any]:
            found = find_patches(clip.content(), self.settings, clip.foreground())
            return [(patches.previous.tolist(), patches.current.tolist(), patches.size) for patches in found]

        def corners(places: list[list[int]]) -> "Tensor":
            return torch.tensor(places, dtype=torch.int64).reshape(-1, 2)

        pairs = self.run.parts.get(f"patches {clip.name}", find)
        return [Patches(corners(previous), corners(current), size) for previous, current, size in pairs]


def _prepared(
    styles: "Mapping[str, StyleSource]", optimizer: "OptimizerOptions", options: Mapping[str, Any]
) -> "Prepared | None":
    """What a report needs, if one is asked for: what is missing is said before hours of work."""
    if not options["html"]:
        return None
    from nststab.experiments.stability_scenes import prepared

    return prepared(styles, optimizer, options)


def _kept(run: Run, options: Mapping[str, Any]) -> "KeptFrames | None":
    """What keeps the frames that a report will show."""
    if not options["html"]:
        return None
    from nststab.experiments.stability_scenes import KeptFrames, most_frames

    return KeptFrames(run.shown, most_frames(options))


def _part(one: Candidate, clip: _Clip) -> str:
    return f"{one.name} {clip.name}"
