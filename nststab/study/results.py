"""What a study found: majorities by video as in the paper's Table 3, agreement, strengths, and which measure knew."""

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path

from nststab.errors import NststabError
from nststab.experiments.figures import drawing
from nststab.experiments.paper import METHODS, TABLE_3
from nststab.listener import Listener, reported, silent
from nststab.measure.intervals import Interval, said, with_interval
from nststab.measure.settings import HIGHER_IS_BETTER, ScoreSettings
from nststab.report.colors import SERIES, series_of
from nststab.report.html import Report
from nststab.storage.durable import write_durably
from nststab.storage.tables import Json, Table, versions, without_nan
from nststab.study.answers import Answer, Answers
from nststab.study.design import Study, read_study
from nststab.study.settings import QUESTIONS
from nststab.study.statistics import (
    FIRST,
    SAME,
    SECOND,
    Judgement,
    Prediction,
    Strengths,
    Votes,
    exact_interval,
    krippendorff_alpha,
    majority,
    predicted,
    strengths,
    votes,
)

SCHEMA = 1
_PAPER = dict(zip(QUESTIONS, TABLE_3.values(), strict=True))
_RIGHT = {"same": SAME, "flicker": SECOND}  # the answer on flicker to a catch pair
_NOT_MEASURES = ("rank", "lag", "n", "trusted")


@dataclass(frozen=True)
class Compared:
    """A question on two clips.

    Attributes:
        videos: of how many the majority chose the first, the second, neither; of a tie or about the same neither.
        answers: how many people chose the same.
        alpha: of the answers, Krippendorff's.
        paper: the cells of Table 3, where the clips have the names of its methods.
    """

    question: str
    first: str
    second: str
    videos: Votes
    answers: Votes
    alpha: float
    paper: tuple[int, int] | None

    @property
    def interval(self) -> Interval:
        """Of the first clip's share of the videos that the majority decided, exact and binomial."""
        return exact_interval(self.videos[FIRST], self.videos[FIRST] + self.videos[SECOND])


@dataclass(frozen=True)
class Results:
    """What was found. Answers of people who failed a catch pair are in `failed` alone.

    Attributes:
        answers: those that count; failed: those of the others.
        measures: by scene, by clip, the figures of `score`; empty where none were asked for.
    """

    study: Study
    answers: Sequence[Answer]
    failed: Sequence[Answer]
    measures: Mapping[int, Mapping[str, Mapping[str, float]]]

    @cached_property
    def compared(self) -> list[Compared]:
        """The first clip with each other one, as in Table 3, then the others; of each, the questions."""
        pairs = list(combinations(self.study.clips, 2))
        return [self._compare(pair, number) for pair in pairs for number in range(len(self.study.questions))]

    def _compare(self, pair: tuple[str, str], number: int) -> Compared:
        units = [
            [one.chosen(number) for one in given]
            for trial, given in self.by_trial.items()
            if self.study.trials[trial].clips == pair
        ]
        question = self.study.questions[number]
        winners = votes(majority(votes(unit)) for unit in units)
        answers = votes(choice for unit in units for choice in unit)
        return Compared(question, *pair, winners, answers, krippendorff_alpha(units), _paper(question, *pair))

    @cached_property
    def by_trial(self) -> dict[int, list[Answer]]:
        """The answers that count, without those to catch pairs."""
        found: dict[int, list[Answer]] = defaultdict(list)
        for one in self.answers:
            if self.study.trials[one.trial].kind == "pair":
                found[one.trial].append(one)
        return dict(found)

    @cached_property
    def strengths(self) -> dict[str, Strengths]:
        """By question, how often a clip is chosen: as that which flickers more, that which matches better."""
        return {
            question: strengths(
                [
                    Judgement(one.person, *self.study.trials[trial].clips, one.chosen(number))
                    for trial, given in self.by_trial.items()
                    for one in given
                ],
                self.study.clips,
                self.study.settings["seed"],
            )
            for number, question in enumerate(self.study.questions)
        }

    @cached_property
    def predictions(self) -> dict[str, dict[str, Prediction]]:
        """By question and measure, on how many pairs the better clip by the measure is the one that people chose.

        For the question on flicker that is the worse one. Measures are better where they are lower, but for
        `HIGHER_IS_BETTER`.
        """
        names = dict.fromkeys(name for scene in self.measures.values() for clip in scene.values() for name in clip)
        return {
            question: {name: self._predicted(name, number) for name in names}
            for number, question in enumerate(self.study.questions)
        }

    def _predicted(self, name: str, number: int) -> Prediction:
        higher = (name in HIGHER_IS_BETTER) != (self.study.questions[number] == "flicker")
        winners = {
            trial: majority(votes(one.chosen(number) for one in given)) for trial, given in self.by_trial.items()
        }
        differences = {}
        for trial in winners:
            of_clips = self.measures.get(self.study.trials[trial].scene, {})
            figures = [
                of_clips[clip][name] for clip in self.study.trials[trial].clips if name in of_clips.get(clip, {})
            ]
            if len(figures) == 2:
                differences[trial] = figures[0] - figures[1]
        return predicted(differences, winners, lambda difference: FIRST if (difference > 0) == higher else SECOND)

    @property
    def table_3(self) -> Table:
        """Majorities and answers, beside the paper's cells."""
        rows = [
            [
                QUESTIONS[one.question],
                f"{one.first} : {one.second}",
                "{} : {} ({})".format(*one.videos),
                _share(one.videos, one.interval),
                "{} : {} ({})".format(*one.answers),
                said(one.alpha, 2),
                "-" if one.paper is None else "{} : {}".format(*one.paper),
            ]
            for one in self.compared
        ]
        columns = ["question", "clips", "videos", "share of decided", "answers", "alpha", "Gupta et al. 2017"]
        note = (
            "videos by more than half of the people (in brackets: no such majority, or about the same); shares with "
            "exact binomial 95 % intervals; alpha: Krippendorff's. The paper: Table 3, five workers a video, recurrent "
            f"against {', '.join(f'{name} ({METHODS[name]})' for name in ('independent', 'ruder'))}"
        )
        return Table("People", columns, rows, note)

    @property
    def strength_table(self) -> Table:
        """Of each clip the strength for each question."""
        rows = [
            [clip, *(with_interval(found.values[clip], found.intervals[clip], 2) for found in self.strengths.values())]
            for clip in self.study.clips
        ]
        columns = ["clip", *(QUESTIONS[question] for question in self.strengths)]
        note = "Bradley-Terry strengths in log odds with ties by Davidson 1970, 95 % bootstrap intervals over people"
        return Table("Strengths: how readily a clip is chosen", columns, rows, note)

    @property
    def prediction_table(self) -> Table | None:
        """Of each measure how often it knew; None where none were measured."""
        if not self.measures:
            return None
        first = next(iter(self.predictions.values()))
        rows = [
            [
                name,
                *(
                    f"{own[name].right} of {own[name].of} {_bounds(own[name].interval)}".strip()
                    for own in self.predictions.values()
                ),
            ]
            for name in first
        ]
        columns = ["measure", *(QUESTIONS[question] for question in self.predictions)]
        note = (
            "pairs on which the measure names the clip of the majority, of those that both decide, exact 95 % interval"
        )
        return Table("Which measure knew what people saw", columns, rows, note)

    @property
    def people_table(self) -> Table:
        """Who took part, those who failed a catch pair apart."""
        rows = []
        for name, given in (("counted", self.answers), ("failed a catch pair: left out", self.failed)):
            seconds = [one.seconds for one in given]
            rows.append(
                [
                    name,
                    str(len({one.person for one in given})),
                    str(len(given)),
                    f"{statistics.median(seconds):.1f}" if seconds else "-",
                    f"{statistics.fmean(one.replays for one in given):.1f}" if given else "-",
                ]
            )
        note = (
            "a catch pair is failed by another answer on flicker than about the same, or the clip where it is planted"
        )
        return Table("Who took part", ["", "people", "answers", "median seconds", "mean replays"], rows, note)

    @property
    def tables(self) -> list[Table]:
        """All of them."""
        found = [self.table_3, self.strength_table, self.prediction_table, self.people_table]
        return [table for table in found if table is not None]

    def table(self) -> str:
        """All tables as text for a terminal."""
        return "\n\n".join(table.text() for table in self.tables)

    def findings(self) -> list[str]:
        """The paper's comparison in sentences."""
        return [
            f"{QUESTIONS[one.question]} Of {sum(one.videos)} video{'s' * (sum(one.videos) != 1)}: {one.first} "
            f"{one.videos[FIRST]}, {one.second} {one.videos[SECOND]}, neither {one.videos[SAME]}."
            for one in self.compared
            if one.first == self.study.clips[0]
        ]

    def json(self) -> dict[str, Json]:
        """All figures, answers by random number, and what decides them."""
        found = {
            "schema": SCHEMA,
            "settings": self.study.settings,
            "clips": self.study.clips,
            "compared": [
                {
                    "question": one.question,
                    "clips": [one.first, one.second],
                    "videos": one.videos,
                    "interval": one.interval,
                    "answers": one.answers,
                    "alpha": one.alpha,
                    "paper": one.paper,
                }
                for one in self.compared
            ],
            "strengths": {
                question: {clip: {"value": own.values[clip], "interval": own.intervals[clip]} for clip in own.values}
                for question, own in self.strengths.items()
            },
            "predictions": {
                question: {name: {**one._asdict(), "interval": one.interval} for name, one in own.items()}
                for question, own in self.predictions.items()
            },
            "people": {
                "counted": len({one.person for one in self.answers}),
                "failed": len({one.person for one in self.failed}),
            },
            "answers": [
                self._answer(one, counts)
                for counts, given in ((True, self.answers), (False, self.failed))
                for one in given
            ],
            "versions": versions(),
        }
        return dict(without_nan(found))

    def _answer(self, one: Answer, counts: bool) -> dict[str, Json]:
        trial = self.study.trials[one.trial]
        names = (*trial.clips, "same")
        chosen = {question: names[one.chosen(number)] for number, question in enumerate(self.study.questions)}
        return {
            "person": one.person,
            "sequence": self.study.scenes[trial.scene].name,
            "kind": trial.kind,
            "clips": trial.clips,
            **chosen,
            "seconds": one.seconds,
            "replays": one.replays,
            "counts": counts,
        }

    def write(self, folder: str | Path) -> None:
        """Writes results.json, table.md, table.tex, report.html, figure.png and figure.svg."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        texts = {
            "results.json": json.dumps(self.json(), indent=1, allow_nan=False) + "\n",
            "table.md": "\n".join(table.markdown() for table in self.tables),
            "table.tex": "\n".join(
                replace(table, note="").latex(f"{table.title}. {table.note}") for table in self.tables
            ),
        }
        for name, text in texts.items():
            write_durably(folder / name, text.encode())
        styles = [{"name": style["name"], "image": style["image"], "text": ""} for style in self.study.styles]
        page = Report("What people saw", styles, self.findings(), self.tables, dict(self.study.settings))
        page.maker = "nststab study results"
        page.write(folder / "report.html")
        self._draw(folder)

    def _draw(self, folder: Path) -> None:
        """The shares of answers of each comparison above the strengths of clips, a column for each question."""
        questions = self.study.questions
        pairs = list(dict.fromkeys((one.first, one.second) for one in self.compared))
        named = self.study.clips[: len(SERIES) - 1]
        places = series_of(["input", *named])[1:]
        colors = {clip: SERIES[place] for clip, place in zip(named, places, strict=True)}
        height = 1.6 + 0.45 * len(pairs) + 0.35 * len(self.study.clips)
        with drawing(folder, width=3.4 * len(questions), height=height) as figure:
            ratios = [0.45 * len(pairs) + 0.4, 0.35 * len(self.study.clips) + 0.4]
            axes = figure.subplots(
                2, len(questions), squeeze=False, sharey="row", gridspec_kw={"height_ratios": ratios}
            )
            for column, question in enumerate(questions):
                above, below = axes[0][column], axes[1][column]
                above.set_title(QUESTIONS[question])
                for row, one in enumerate([own for own in self.compared if own.question == question]):
                    left, total = 0.0, max(1, sum(one.answers))
                    parts = (
                        (FIRST, colors.get(one.first, "#666666")),
                        (SAME, "#d8d8d8"),
                        (SECOND, colors.get(one.second, "#999999")),
                    )
                    for choice, color in parts:
                        share = 100 * one.answers[choice] / total
                        bar = above.barh(row, share, left=left, color=color, height=0.6)
                        label = f"{one.answers[choice] or ''}"
                        ink = "#000000" if choice == SAME else "#ffffff"
                        above.bar_label(bar, [label], label_type="center", color=ink, fontsize=8)
                        left += share
                above.set(xlim=(0, 100), xlabel="% of answers (gray: about the same)")
                above.set_yticks(
                    range(len(pairs)), [f"{first} : {second}" for first, second in pairs], parse_math=False
                )
                own = self.strengths[question]
                for row, clip in enumerate(self.study.clips):
                    low, high = own.intervals[clip]
                    below.plot([low, high], [row, row], color=colors.get(clip, "#666666"), linewidth=2)
                    below.plot([own.values[clip]], [row], "o", color=colors.get(clip, "#666666"))
                below.axvline(0, color="#808080", linewidth=0.6)
                below.set_xlabel("strength (log odds)")
                below.set_yticks(range(len(self.study.clips)), self.study.clips, parse_math=False)
            for first in axes[:, 0]:  # its rows are those of the others too
                first.invert_yaxis()


def results(
    folder: str | Path, output: str | Path | None = None, *, measures: bool = True, progress: Listener = silent
) -> Results:
    """What people answered to the study in `folder` so far, written into `output`, its folder `results` by default.

    measures: whether to score the clips too, where they are still to be found, and say how well each measure predicts
    the answers; figures are kept in the study's folder. Raises NststabError where there are no answers.
    """
    folder = Path(folder)
    study = read_study(folder)
    answers = Answers(folder, study).all()
    if not answers:
        raise NststabError(f"{folder} holds no answers yet: `nststab study serve {folder}` asks people")
    failing = failed_people(study, answers)
    counted = [one for one in answers if one.person not in failing]
    figures = _measured(study, folder, progress) if measures else {}
    found = Results(study, counted, [one for one in answers if one.person in failing], figures)
    found.write(folder / "results" if output is None else output)
    return found


def failed_people(study: Study, answers: Sequence[Answer]) -> set[str]:
    """Those who gave a wrong answer on flicker to any catch pair."""
    asked = study.questions.index("flicker")
    return {
        one.person
        for one in answers
        if (right := _RIGHT.get(study.trials[one.trial].kind)) is not None and one.chosen(asked) != right
    }


def _measured(study: Study, folder: Path, progress: Listener) -> dict[int, dict[str, dict[str, float]]]:
    """The figures of `score` of every scene's clips, by their names; read where they are kept already."""
    (folder / "scores").mkdir(exist_ok=True)
    found = {}
    with reported(progress, "score", len(study.scenes)) as advance:
        for number, scene in enumerate(study.scenes):
            kept = folder / "scores" / f"{number}.json"
            if not kept.exists():
                _score(study, number, kept)
            rows = json.loads(kept.read_text("utf-8"))["clips"]
            names = {path: name for name, path in scene.clips.items()}
            found[number] = {names[row["path"]]: _figures(row) for row in rows}
            advance(number + 1)
    return found


def _score(study: Study, number: int, kept: Path) -> None:
    from nststab.tasks.score import score

    scene = study.scenes[number]
    if missing := [path for path in (scene.input, *scene.clips.values()) if not Path(path).exists()]:
        raise NststabError(f"{missing[0]}: this clip of the study is gone; say --no-measures")
    style = None if scene.style is None else study.styles[scene.style]["text"]
    settings = ScoreSettings(limit=max(2, len(scene.times)))
    score(scene.input, list(scene.clips.values()), style=style, settings=settings).write_json(kept)


def _figures(row: Mapping[str, Json]) -> dict[str, float]:
    figures = {**row, **row.get("measures", {})}
    return {
        name: float(value)
        for name, value in figures.items()
        if isinstance(value, int | float) and name not in _NOT_MEASURES
    }


def _paper(question: str, first: str, second: str) -> tuple[int, int] | None:
    """The paper's cell, where the clips have the names of its methods: the other one may stand first."""
    cells = _PAPER[question]
    if second == "recurrent" and first in cells:
        recurrent, other = cells[first]
        return other, recurrent
    return cells.get(second) if first == "recurrent" else None


def _share(videos: Votes, interval: Interval) -> str:
    decided = videos[FIRST] + videos[SECOND]
    return f"{videos[FIRST] / decided:.0%} {_bounds(interval)}" if decided else "-"


def _bounds(interval: Interval) -> str:
    return "" if math.isnan(interval.low) else f"[{interval.low:.0%}, {interval.high:.0%}]"
