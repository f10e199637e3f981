"""Figures 7, 8 and 9 of Gupta et al. 2017, of any clips: what was hidden and came back, where the flow is wrong, and
consecutive crops with their PSNR and SSIM.

The moments are found as for a report (`report.moments`, `report.occlusions`): by the input alone, but for the crops of
Figure 9, which are where the clips differ most from frame to frame, and least.
"""

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from torch import Tensor

from nststab.errors import NststabError, SettingError
from nststab.experiments.figures import drawing
from nststab.flow.estimators import dis
from nststab.frames import Frame
from nststab.measure.pairing import Counterparts, Pairing
from nststab.measure.score import ScoreMeter, score
from nststab.measure.settings import ScoreSettings
from nststab.measure.stability import CONTENT
from nststab.report.html import clip_names
from nststab.report.moments import Failure
from nststab.report.occlusions import Occlusion, find_occlusions
from nststab.report.recorder import SceneRecorder
from nststab.shots import split_shots
from nststab.video.clip import open_clip
from nststab.video.images import to_uint8

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CELL = 1.35  # inches, the height of a picture
_TITLE = 0.28  # of a line of text


def paper_figure(
    number: int,
    original: str | Path,
    clips: Sequence[str | Path],
    output: str | Path,
    *,
    names: Sequence[str] | None = None,
    size: int | None = None,
    settings: ScoreSettings | None = None,
) -> list[Path]:
    """Draws Figure 7, 8 or 9 of the paper for `clips`, which were made of `original`, and gives the files.

    Args:
        number: 7, something hidden comes back; 8, the flow is trusted and wrong; 9, consecutive crops.
        output: a name, to which .png and .svg are added.
        names: what the figure calls the clips; by default their files' names.
        size: the longest side to look at.

    Raises:
        NststabError: there is no such moment in the clips, or they do not fit the original.
        SettingError: there is no such figure.
    """
    draw = _FIGURES.get(number)
    if draw is None:
        raise SettingError(f"number: expected one of {', '.join(map(str, _FIGURES))}, got {number}")
    paths = [Path(clip) for clip in clips]
    if names is not None and len(names) != len(paths):
        raise SettingError(f"names: expected one for each of {len(paths)} clips, got {len(names)}")
    called = [CONTENT, *(names or clip_names(paths))]
    settings = ScoreSettings.of(settings).changed(gaps=(1,))
    with TemporaryDirectory(prefix="nststab_") as folder:
        recorder = _recorded(Path(original), paths, called, Path(folder), size, settings)
        draw(recorder, Path(output))
    return [Path(f"{output}{suffix}") for suffix in (".png", ".svg")]


def _recorded(
    original: Path, paths: Sequence[Path], names: Sequence[str], folder: Path, size: int | None, settings: ScoreSettings
) -> SceneRecorder:
    """All frames of the clips, with their telling moments."""
    source = open_clip(original)
    pairing = Pairing(source, [open_clip(path) for path in paths], size=size, limit=settings.limit)
    count = pairing.frame_count
    if count is None:
        raise NststabError(f"{original}: expected a clip that knows its length, got a stream")
    times = [(Fraction(number, 25), Fraction(1, 25)) for number in range(count)]
    recorder = SceneRecorder(names, times, folder)
    meter = ScoreMeter(len(paths), settings)
    frames = pairing.original_frames()

    def counterparts(_frame: Frame) -> Counterparts:
        return pairing.counterparts()

    for _ in score(split_shots(frames), counterparts, meter, lambda a, b: dis(a.rgb, b.rgb), recorder):
        pass
    pairing.finish()
    return recorder


def _figure_9(recorder: SceneRecorder, output: Path) -> None:
    """A row for each crop, two pictures for each clip: the frame and the next; PSNR and SSIM below."""
    crops = recorder.crops.result()
    if not crops:
        raise NststabError("expected frames that hold a patch, found none: no Figure 9 of these clips")
    columns = 2 * len(recorder.names)
    shape = (len(crops), columns)
    with drawing(
        output.parent, output.name, columns * _CELL * 0.8, len(crops) * (_CELL * 0.8 + _TITLE) + _TITLE
    ) as figure:
        grid = figure.subplots(*shape, squeeze=False)
        for row, crop in enumerate(crops):
            for place, cell in enumerate(crop.cells):
                left, right = grid[row, 2 * place], grid[row, 2 * place + 1]
                _show(left, cell.previous, recorder.names[place] if row == 0 else "")
                _show(right, cell.current, "")
                left.set_xlabel(f"{cell.psnr:.1f} dB", fontsize=8)
                right.set_xlabel(f"{cell.ssim:.3f}", fontsize=8)
            frames = f"{crop.kind} stable\nframes {crop.frame}, {crop.frame + 1}"
            grid[row, 0].set_ylabel(frames, fontsize=7)


def _figure_7(recorder: SceneRecorder, output: Path) -> None:
    """A row for each clip: a thing before it is hidden, then, and after; how much it changed at the right."""
    found: list[Occlusion] = find_occlusions(recorder.shown, recorder.shots, dis)
    if not found:
        raise NststabError("expected something that is hidden and comes back, found none: no Figure 7 of these clips")
    (occlusion,) = found
    height, width = occlusion.pictures[0][0].shape[-2:]
    rows = len(recorder.names)
    with drawing(output.parent, output.name, 3 * _CELL * width / height + 1.05, rows * _CELL + _TITLE) as figure:
        grid = figure.subplots(rows, 3, squeeze=False)
        for row, (name, pictures, change) in enumerate(
            zip(recorder.names, occlusion.pictures, occlusion.changes, strict=True)
        ):
            for column, (picture, frame) in enumerate(zip(pictures, occlusion.frames, strict=True)):
                _show(grid[row, column], picture, f"frame {frame + 1}" if row == 0 else "")
            grid[row, 0].set_ylabel(name, fontsize=8)
            grid[row, 2].annotate(
                f"changed by\n{change:.1f} levels",
                (1.03, 0.5),
                xycoords="axes fraction",
                va="center",
                fontsize=8,
                annotation_clip=False,
            )


def _figure_8(recorder: SceneRecorder, output: Path) -> None:
    """A row for each clip, two frames around the flow's worst failure; below the flow, and where it is trusted."""
    found: list[Failure] = recorder.failures.result()
    if not found:
        raise NststabError("expected a flow that is trusted and wrong, found none: no Figure 8 of these clips")
    failure = found[0]
    height, width = failure.flow.shape[-2:]
    rows = len(recorder.names) + 1
    with drawing(output.parent, output.name, 2 * _CELL * width / height + 0.3, rows * (_CELL + 0.1) + _TITLE) as figure:
        grid = figure.subplots(rows, 2, squeeze=False)
        for row, name in enumerate(recorder.names):
            _show(grid[row, 0], failure.previous[row], f"frame {failure.frame}" if row == 0 else "")
            _show(grid[row, 1], failure.current[row], f"frame {failure.frame + 1}" if row == 0 else "")
            grid[row, 0].set_ylabel(name, fontsize=8)
        _show(grid[-1, 0], failure.flow, "")
        _show(grid[-1, 1], failure.mask.expand(-1, 3, -1, -1), "")
        grid[-1, 0].set_xlabel(f"flow by dis; misses by {failure.error:.0f} levels", fontsize=8)
        grid[-1, 1].set_xlabel("where it is trusted", fontsize=8)
        for axes in grid.flat:
            _mark(axes, failure)


_FIGURES: Mapping[int, Callable[[SceneRecorder, Path], None]] = {7: _figure_7, 8: _figure_8, 9: _figure_9}


def _mark(axes: "Axes", failure: Failure) -> None:
    """Red lines around the place, added for emphasis as in the paper."""
    from matplotlib.patches import Rectangle

    left, top, wide, high = failure.box
    corner = left - failure.region[0] - 0.5, top - failure.region[1] - 0.5
    axes.add_patch(Rectangle(corner, wide, high, fill=False, edgecolor="#D81B1B", linewidth=1.2))


def _show(axes: "Axes", picture: Tensor, title: str) -> None:
    axes.imshow(to_uint8(picture), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(title, fontsize=8)
