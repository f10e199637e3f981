"""What a study holds: its clips, the pairs of them, and the sheets that say who sees which pair on which side."""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from nststab.errors import NststabError

SCHEMA = 1
FILE, MEDIA = "study.json", "media"
_SHEETS = 60  # at least so many, and as many with all sides exchanged
_PER_CATCH = 10  # pairs to each catch pair of either kind

Kind = Literal["pair", "same", "flicker"]


@dataclass(frozen=True)
class Scene:
    """A sequence in a style: one video of all its clips.

    Attributes:
        name: of the sequence.
        style: its number in the study's list, None where there is none.
        media: the name of the video's file, which says nothing.
        times, end: when each frame begins and the last one ends, in seconds.
        rects: x, y, width and height in the video, the input's first, then the clips' in an order of their own.
        places: of each clip the number of its rectangle; "" is where one of them has planted flicker.
        input, clips: the files that it was made of, by the clips' names.
    """

    name: str
    style: int | None
    media: str
    width: int
    height: int
    aspect: float
    times: list[float]
    end: float
    rects: list[list[int]]
    places: dict[str, int]
    input: str
    clips: dict[str, str]


@dataclass(frozen=True)
class Trial:
    """A pair to judge, `first` and `second` by the clips' names.

    Of the catch pairs "same" is a clip against itself, and "flicker" too, with planted flicker the second time.
    """

    scene: int
    kind: Kind
    first: str
    second: str

    @property
    def clips(self) -> tuple[str, str]:
        """Both names."""
        return self.first, self.second


Sheet = list[tuple[int, bool]]
"""What one person sees, in this order: the number of a trial, and whether its second clip is on the left."""


@dataclass(frozen=True)
class Study:
    """All of a study but its videos and its answers.

    Attributes:
        id: tells answers to this study from those to others.
        token: what the address of the served page holds, so that nobody else finds it.
        clips: their names; the first is the one that is compared with each other one, as "ours" of the paper's Table 3.
        styles: name and small picture, a data address.
    """

    id: str
    token: str
    settings: dict[str, Any]
    questions: list[str]
    clips: list[str]
    styles: list[dict[str, Any]]
    scenes: list[Scene]
    trials: list[Trial]
    sheets: list[Sheet]

    def write(self, folder: Path) -> None:
        """Writes the file, which names what is hidden from who takes part."""
        from nststab.storage.durable import write_durably  # with torch, which a server does without

        text = json.dumps({"schema": SCHEMA, **asdict(self)}, allow_nan=False)
        write_durably(folder / FILE, text.encode())

    def rects(self, trial: int, swapped: bool) -> tuple[int, int]:
        """The numbers of the rectangles on the left and on the right."""
        one = self.trials[trial]
        places = self.scenes[one.scene].places
        left, right = places[one.first], places["" if one.kind == "flicker" else one.second]
        return (right, left) if swapped else (left, right)


def read_study(folder: str | Path) -> Study:
    """The study in a folder; raises NststabError where there is none, or one of another version."""
    path = Path(folder) / FILE
    try:
        data = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise NststabError(f"{folder} holds no study: expected the folder that `nststab study make` wrote") from None
    except ValueError:
        raise NststabError(f"{path} is damaged") from None
    if data.pop("schema", None) != SCHEMA:
        raise NststabError(f"{path} was written by another version of nststab: make the study anew")
    data["scenes"] = [Scene(**scene) for scene in data["scenes"]]
    data["trials"] = [Trial(**trial) for trial in data["trials"]]
    data["sheets"] = [[(trial, swapped) for trial, swapped in sheet] for sheet in data["sheets"]]
    return Study(**data)


def make_trials(scenes: int, flickering: Mapping[int, str], clips: Sequence[str]) -> list[Trial]:
    """Every pair of clips of every scene, and the catch pairs of the scenes in `flickering`, by their clips."""
    pairs = [Trial(number, "pair", *pair) for number in range(scenes) for pair in combinations(clips, 2)]
    kinds: tuple[Kind, ...] = ("same", "flicker")
    return pairs + [Trial(number, kind, clip, clip) for number, clip in flickering.items() for kind in kinds]


def make_sheets(trials: Sequence[Trial], per_person: int, seed: int) -> list[Sheet]:
    """Sheets on which every pair stands equally often, and equally often on either side.

    The pairs are shuffled and dealt out, again and again; catch pairs of both kinds are mixed in. Each sheet of an odd
    number is the one before it in another order, with all sides exchanged.
    """
    draw = random.Random(f"sheets {seed}")
    pairs = [number for number, trial in enumerate(trials) if trial.kind == "pair"]
    catches = [[number for number, trial in enumerate(trials) if trial.kind == kind] for kind in ("same", "flicker")]
    sheets: list[Sheet] = []
    while len(sheets) < 2 * _SHEETS:
        for dealt in _dealt(draw.sample(pairs, len(pairs)), per_person):
            count = max(1, round(len(dealt) / _PER_CATCH))
            drawn = [number for kind in catches for number in draw.sample(kind, min(count, len(kind)))]
            sheet = [(number, draw.random() < 0.5) for number in (*dealt, *drawn)]
            draw.shuffle(sheet)
            sheets += [sheet, draw.sample([(number, not swapped) for number, swapped in sheet], len(sheet))]
    return sheets


def _dealt(pairs: Sequence[int], most: int) -> Iterator[Sequence[int]]:
    """All of them in as few parts as hold at most so many, as equal as can be."""
    parts = -(-len(pairs) // most)
    return (pairs[part::parts] for part in range(parts))
