"""What Gupta et al. 2017 (arXiv 1705.02092) published as numbers, to stand beside ours.

Their real-time baseline is our `independent`, their Optim baseline (Ruder et al. 2016, single pass) our `ruder`.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from nststab.storage.tables import Table

METHODS = {"independent": "real-time baseline", "ruder": "Optim", "recurrent": "recurrent"}


class Cell(NamedTuple):
    """A cell of Table 1: PSNR in dB and SSIM."""

    psnr: float
    ssim: float


_STYLES = {
    "the_great_wave": ((24.3, 0.47), (25.5, 0.48), (24.8, 0.54)),
    "portrait_de_metzinger": ((23.6, 0.31), (24.4, 0.37), (24.2, 0.42)),
    "composition_xiv": ((23.8, 0.31), (24.0, 0.38), (24.2, 0.42)),
    "mosaic": ((23.7, 0.31), (24.4, 0.37), (24.0, 0.39)),
    "rain_princess": ((23.8, 0.41), (25.2, 0.45), (24.4, 0.49)),
}
TABLE_1: Mapping[str, Mapping[str, Cell]] = {
    style: {method: Cell(*cell) for method, cell in zip(METHODS, cells, strict=True)}
    for style, cells in _STYLES.items()
}
"""Table 1, by our names of style and method: corresponding 100x100 background patches, all 50 videos of DAVIS.

For Optim three random videos of each style only: all would have taken 25 days on a GPU.
"""

TABLE_2: Mapping[int, Mapping[str, float]] = {
    256: {"independent": 0.024, "ruder": 22.14, "recurrent": 0.024},
    512: {"independent": 0.044, "ruder": 59.64, "recurrent": 0.044},
    1024: {"independent": 0.141, "ruder": 199.6, "recurrent": 0.141},
}
"""Table 2, seconds a frame by side of the square frames, on a Titan X Pascal; Optim: 1000 iterations, without flow."""

TABLE_3: Mapping[str, Mapping[str, tuple[int, int]]] = {
    "which flickers more": {"independent": (26, 193), "ruder": (6, 4)},
    "which matches the style better": {"independent": (70, 114), "ruder": (8, 4)},
    "which is preferred overall": {"independent": (133, 80), "ruder": (7, 8)},
}
"""Table 3, videos by the majority of five workers: theirs (recurrent) against the other; the rest was "about the same".

50 videos of each style against the real-time baseline, three against Optim.
"""

SOURCE_1 = "Gupta et al. 2017, Table 1: 100x100 patches, DAVIS; Optim on three videos of each style"
SOURCE_2 = "Gupta et al. 2017, Table 2: a Titan X Pascal; Optim with 1000 iterations and without flow"


def cell(style: str, method: str) -> Cell | None:
    """The paper's cell of Table 1, None where it has none."""
    return TABLE_1.get(style, {}).get(method)


def mean_cell(styles: Iterable[str], method: str) -> Cell | None:
    """The mean of the cells of `styles`, None where one of them has none."""
    cells = [cell(style, method) for style in styles]
    known = [one for one in cells if one is not None]
    if not known or len(known) < len(cells):
        return None
    return Cell(*(sum(values) / len(known) for values in zip(*known, strict=True)))


def _gain() -> Cell:
    cells = TABLE_1.values()
    differences = [
        [getattr(own["recurrent"], name) - getattr(own["independent"], name) for own in cells] for name in Cell._fields
    ]
    return Cell(*(round(sum(values) / len(values), 4) for values in differences))


GAIN = _gain()
"""What the recurrent network gains over the real-time baseline, mean of the five styles: 0.48 dB and 0.09."""


_COLUMNS = [f"{theirs} (our {ours})" for ours, theirs in METHODS.items()]
_CELLS = {
    "stability": Table(
        f"The paper's cells, PSNR dB / SSIM ({SOURCE_1})",
        ["style", *_COLUMNS],
        [[style, *(f"{one.psnr:.1f} / {one.ssim:.2f}" for one in own.values())] for style, own in TABLE_1.items()],
    ),
    "speed": Table(
        f"The paper's cells, seconds a frame ({SOURCE_2})",
        ["side", *_COLUMNS],
        [[str(side), *(f"{seconds:g}" for seconds in own.values())] for side, own in TABLE_2.items()],
    ),
}
_NO_CELLS = "The paper measures nothing of the kind: there are no cells to stand beside."
_BESIDE = {
    "stability": (
        "Ours differ because our networks were fine-tuned on clips with exact flow, occlusions and sensor noise; the "
        "paper's are of fifty sequences, and frames are as wide as its with --size 854 only."
    ),
    "speed": "Ours differ because a processor is no Titan X Pascal: only the ratios of the methods compare.",
    "gram-trace": (
        "The paper's Figure 3 gives no numbers, but the claim that a style is the less stable the larger the trace of "
        "its Gram matrix; ours differ because videos and networks are others."
    ),
    "distortions": (
        "The paper's Figure 6 gives no numbers and no strengths of blur and sharpening; ours differ because these are "
        "our choice, and results are also moved back before they are compared."
    ),
    "theorem": (
        "The paper's Figure 2 is the case of one channel and one pixel, as our first row; ours differ because its "
        "theorem's converse fails for more channels."
    ),
    "drift": _NO_CELLS,
    "shift": _NO_CELLS,
}


def beside(experiment: str) -> str:
    """What the paper has for an experiment, by its name, and why ours differ, in Markdown; empty for another's."""
    if experiment not in _BESIDE:
        return ""
    cells = f"{_CELLS[experiment].markdown()}\n" if experiment in _CELLS else ""
    return f"{cells}**Beside the paper.** {_BESIDE[experiment]}\n"
