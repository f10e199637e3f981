"""Scores of folders of sequences: `score` of each sequence, and their means, in which each counts the same."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from nststab.errors import NststabError, SettingError
from nststab.measure.intervals import mean_of_known
from nststab.measure.score import ClipScore
from nststab.measure.scores import Recorded, ScoredClip, Scores, clip_ranks
from nststab.measure.settings import ScoreSettings
from nststab.measure.stability import CONTENT, Curves, MethodStability
from nststab.metrics import DriftSlopes
from nststab.report.html import clip_names
from nststab.storage.tables import Json, Row, Table, csv_text
from nststab.tasks.score import score
from nststab.video.picture_files import sequence_clip, sequences

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SequenceScores(Recorded):
    """What `score_sequences` found: the scores of each sequence by its name."""

    sequences: Mapping[str, Scores]

    @cached_property
    def mean(self) -> Scores:
        """The means over the sequences, with ranks of their own; intervals and tests are over the sequences."""
        first, *_ = found = list(self.sequences.values())
        own = _mean([one.input for one in found])
        clips = [_mean([one.clips[place].score for one in found]) for place in range(len(first.clips))]
        lags = [next((one.clips[place].lag for one in found if one.clips[place].lag), 0) for place in range(len(clips))]
        places = clip_ranks(own, clips, lags)
        scored = tuple(
            ScoredClip(clip.path.parent, clip.name, rank, one, lag)
            for clip, rank, one, lag in zip(first.clips, places, clips, lags, strict=True)
        )
        return replace(
            first,
            original=first.original.parent,
            frames=sum(one.frames for one in found),
            shots=sum(one.shots for one in found),
            input=own,
            references={name: _mean([one.references[name] for one in found]) for name in first.references},
            clips=scored,
            block=1,
        )

    @property
    def clips(self) -> tuple[ScoredClip, ...]:
        """The clips with their means."""
        return self.mean.clips

    @property
    def published(self) -> Table:
        """As `Scores.published`, of the means."""
        return self.mean.published

    @property
    def settings_line(self) -> str:
        """As `Scores.settings_line`."""
        return f"{self.mean.settings_line}; {len(self.sequences)} sequences: {', '.join(self.sequences)}"

    @property
    def figures(self) -> Table:
        """A row for each sequence of the input and of each clip."""
        rows: list[list[str]] = []
        for place, clip in enumerate([CONTENT, *(clip.name for clip in self.clips)]):
            for sequence, scores in self.sequences.items():
                own = scores.shown(scores.input if place == 0 else scores.clips[place - 1].score)
                rows.append([f"{clip}: {sequence}", *own.values()])
        first, *_ = self.sequences.values()
        return Table("", ["clip", *first.shown(first.input)], rows)

    def table(self) -> str:
        """The table of the means, and that of the sequences, as text for a terminal."""
        interval = "with intervals over sequences" if len(self.sequences) > 2 else "of two no interval is given"
        means = f"Means of {len(self.sequences)} sequence{'s' * (len(self.sequences) > 1)}, {interval}"
        return f"{means}\n{self.mean.table()}\n\nBy sequence, with intervals over frames\n{self.figures.text()}"

    def latex(self) -> str:
        """The tables of the means for LaTeX; the settings are the caption."""
        return self.mean.figures.latex(self.settings_line) + "\n" + self.published.latex(self.settings_line)

    def csv(self) -> str:
        """As `Scores.csv`, with the sequence in front; the means come last, under `mean`."""
        rows: list[Row] = []
        for name, scores in {**self.sequences, "mean": self.mean}.items():
            rows += [{"sequence": name, **row} for row in scores.flat_rows()]
        return csv_text(rows)

    def json(self) -> dict[str, Json]:
        """The scores of each sequence and their means, as `Scores.json`."""
        found = {name: scores.json() for name, scores in self.sequences.items()}
        return {
            "schema": self.mean.json()["schema"],
            "settings_line": self.settings_line,
            "mean": self.mean.json(),
            "sequences": found,
        }


def score_sequences(
    originals: str | Path,
    stylized: Sequence[str | Path],
    *,
    masks: str | Path | None = None,
    flow: str | Path | None = None,
    **options: Any,
) -> SequenceScores:
    """Scores folders of sequences, such as DAVIS/JPEGImages/480p, results/mine and results/theirs.

    `originals` and each of `stylized` hold for a sequence a folder of pictures, or a video, of its name. Those
    sequences are scored that the first of `stylized` holds; `masks` and `flow` hold one folder for each.

    Args:
        options: of `score`, but for `html`.

    Raises:
        NststabError: no sequence is in all folders, or one is in some of them only; else as `score`.
    """
    if options.get("html") is not None:
        raise SettingError("html: a report is of one clip, not of folders of sequences")
    settings = ScoreSettings.of(options.pop("settings", None))
    folders, source = [Path(folder) for folder in stylized], Path(originals)
    names = sequences(source)
    if not names or not folders:
        raise NststabError(f"{source}: expected folders of pictures or videos, and a folder of clips to score")
    found = [{name: clip for name in names if (clip := sequence_clip(folder, name))} for folder in folders]
    for folder, clips in zip(folders, found, strict=True):
        if missing := [name for name in found[0] if name not in clips] or [n for n in clips if n not in found[0]]:
            raise NststabError(f"{folder}: expected the same sequences as in {folders[0]}, {missing[0]} differs")
    if not found[0]:
        raise NststabError(f"{folders[0]}: expected clips of the sequences of {source}, such as {names[0]}, found none")
    if len(found[0]) < len(names):
        log.info(f"{len(found[0])} of the {len(names)} sequences of {source} have clips")
    scored = {}
    for name in found[0]:
        log.info(f"sequence {name}")
        scores = score(
            sequence_clip(source, name) or source,
            [clips[name] for clips in found],
            masks=None if masks is None else Path(masks) / name,
            flow=None if flow is None else Path(flow) / name,
            settings=settings,
            **options,
        )
        named = zip(scores.clips, clip_names(folders), strict=True)
        scored[name] = replace(scores, clips=tuple(replace(clip, name=own) for clip, own in named))
    return SequenceScores(scored)


def _mean(scores: Sequence[ClipScore]) -> ClipScore:
    """The means of sequences, whose curves hold a number for each of them."""
    rows = [one.stability for one in scores]
    curves = Curves(
        [row.psnr for row in rows],
        [row.ssim for row in rows],
        [row.flicker for row in rows],
        {name: [row.losses[name] for row in rows] for name in rows[0].losses},
    )
    return ClipScore(
        MethodStability.of(curves, sum(row.n for row in rows)),
        {gap: mean_of_known(one.warp_errors[gap] for one in scores) for gap in scores[0].warp_errors},
        {gap: mean_of_known(one.trusted[gap] for one in scores) for gap in scores[0].trusted},
        DriftSlopes(*(mean_of_known(map(abs, slopes)) for slopes in zip(*(one.slopes for one in scores), strict=True))),
        {name: [one.measures.get(name, float("nan")) for one in scores] for name in scores[0].curves},
    )
