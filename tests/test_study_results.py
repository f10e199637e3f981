"""What a study found: from the answers of simulated people in the database to tables, figure, JSON and LaTeX."""

import json
import math
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from nststab.errors import NststabError
from nststab.study.answers import Answers
from nststab.study.design import Study
from nststab.study.results import results
from nststab.study.statistics import exact_interval
from tests.study_samples import HOSTILE, small_study

pytestmark = pytest.mark.usefixtures("unrendered")

TRUTH = {HOSTILE: -0.6, "theirs": 0.9, "third": -0.3}  # how much each flickers


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Study]:
    folder = tmp_path_factory.mktemp("study")
    return folder / "STUDY", small_study(folder, pairs=6, clips=3)


def judge(folder: Path, study: Study, people: int, seed: int, careless: int = 0) -> None:
    """People choose by Davidson's model on flicker, prefer what flickers less, and see no difference in style."""
    draw = np.random.default_rng(seed)
    answers = Answers(folder, study)
    for number in range(people):
        person = answers.begin()
        sheet = study.sheets[answers.sheet_of(person) or 0]
        for place, (index, swapped) in enumerate(sheet):
            trial = study.trials[index]
            if trial.kind == "pair":
                odds = np.array([math.exp(TRUTH[trial.first]), math.exp(TRUTH[trial.second]), 0])
                odds[2] = 0.5 * math.sqrt(odds[0] * odds[1])
                flicker = int(draw.choice(3, p=odds / odds.sum()))
            else:
                flicker = 0 if number < careless else {"same": 2, "flicker": 1}[trial.kind]
            sides = "bas" if swapped else "abs"
            choices = sides[flicker] + "s" + sides[[1, 0, 2][flicker]]
            answers.add(person, place, choices, 4000, 1)


@pytest.fixture
def folder(made: tuple[Path, Study], tmp_path: Path) -> Path:
    (tmp_path / "study.json").write_bytes((made[0] / "study.json").read_bytes())
    return tmp_path


def test_two_hundred_simulated_people_are_recovered_within_the_interval(
    made: tuple[Path, Study], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From their answers in the database; the careless ones stand apart."""
    study = made[1]
    with monkeypatch.context() as quick:
        quick.setattr("nststab.study.answers._DURABLE", "OFF")
        judge(folder, study, people=200, seed=5, careless=10)
    found = results(folder, measures=False)
    assert len({one.person for one in found.answers}) == 190
    assert len({one.person for one in found.failed}) == 10
    flicker = found.strengths["flicker"]
    for clip, truth in TRUTH.items():
        low, high = flicker.intervals[clip]
        assert low < truth < high
        assert high - low < 0.3
    (first, *_) = found.compared
    assert (first.question, first.first, first.second) == ("flicker", HOSTILE, "theirs")
    assert first.videos == (0, 2, 0)
    assert sum(first.answers) == 2 * 190
    assert first.interval == exact_interval(0, 2)
    assert 0 < first.alpha < 1
    by_question = {one.question: one for one in found.compared[:3]}
    assert by_question["style"].answers == (0, 0, 380)
    assert by_question["preference"].videos == (2, 0, 0)
    assert math.isnan(by_question["style"].alpha)  # nobody ever said anything else
    told = json.loads((folder / "results" / "results.json").read_text())
    assert told["people"] == {"counted": 190, "failed": 10}
    assert sum(not one["counts"] for one in told["answers"]) == 10 * len(study.sheets[0])


@pytest.mark.rendered
def test_a_hostile_name_breaks_no_output(made: tuple[Path, Study], folder: Path) -> None:
    judge(folder, made[1], people=3, seed=1)
    found = results(folder, folder / "out", measures=False)
    names = ["figure.png", "figure.svg", "report.html", "results.json", "table.md", "table.tex"]
    assert sorted(path.name for path in (folder / "out").iterdir()) == names
    page = (folder / "out" / "report.html").read_text("utf-8")
    assert "<img src=x" not in page
    assert r"\u003cimg src=x" in page
    latex = (folder / "out" / "table.tex").read_text()
    assert r"\$\textbackslash{}alpha\_ \& " in latex
    assert json.loads((folder / "out" / "results.json").read_text())["clips"][0] == HOSTILE
    assert HOSTILE in found.table()


def test_says_which_measure_knew(made: tuple[Path, Study], folder: Path) -> None:
    """`warp_error` and `ssim` order the clips as people do, `drift` the other way round."""
    study = made[1]
    judge(folder, study, people=15, seed=2)
    (folder / "scores").mkdir()
    for number, scene in enumerate(study.scenes):
        rows = [
            {"path": path, "rank": 1, "n": 9, "ssim": 1 - TRUTH[name], "drift": -TRUTH[name], "style_loss": None,
             "warp_errors": {}, "measures": {"lai2018.warping_error": TRUTH[name]}}
            for name, path in scene.clips.items()
        ]  # fmt: skip
        (folder / "scores" / f"{number}.json").write_text(json.dumps({"clips": rows}))
    found = results(folder)
    flicker, preference = found.predictions["flicker"], found.predictions["preference"]
    assert set(flicker) == {"ssim", "drift", "lai2018.warping_error"}
    assert flicker["ssim"].of >= 4
    for own in (flicker, preference):
        assert own["ssim"].right == own["lai2018.warping_error"].right
        assert own["ssim"].right + own["drift"].right == own["ssim"].of
        assert own["ssim"].right >= own["ssim"].of - 1
    assert found.predictions["style"]["ssim"] == (0, 0)
    assert "Which measure knew" in (folder / "results" / "table.md").read_text()


@pytest.mark.parametrize("names", list(permutations(("recurrent", "independent", "ruder"))))
def test_table_3_stands_beside_the_papers_cells(folder: Path, names: tuple[str, ...]) -> None:
    data = (folder / "study.json").read_text("utf-8")
    for own, name in zip(TRUTH, names, strict=True):
        data = data.replace(json.dumps(own), json.dumps(name))
    (folder / "study.json").write_text(data)
    judge_named(folder)
    found = results(folder, measures=False)
    cells = {(one.question, one.first, one.second): one.paper for one in found.compared}
    for question, other, cell in (("flicker", "independent", (26, 193)), ("preference", "ruder", (7, 8))):
        turned = names.index(other) < names.index("recurrent")
        first, second = (other, "recurrent") if turned else ("recurrent", other)
        assert cells[question, first, second] == (cell[::-1] if turned else cell)
    assert all((one.paper is None) == ("recurrent" not in (one.first, one.second)) for one in found.compared)
    assert "26 : 193" in found.table() or "193 : 26" in found.table()


def judge_named(folder: Path) -> None:
    from nststab.study.design import read_study

    answers = Answers(folder, read_study(folder))
    answers.add(answers.begin(), 0, "aas", 1000, 0)


def test_without_answers_there_are_no_results(folder: Path) -> None:
    with pytest.raises(NststabError, match="holds no answers yet"):
        results(folder)
