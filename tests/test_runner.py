"""The runner of experiments by a toy: its folder, what is kept and resumed, other processes, a killed worker."""

import json
import math
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nststab.errors import NststabError, SettingError
from nststab.experiments import runner
from nststab.experiments.cast import named_styles
from nststab.experiments.figures import drawing
from nststab.experiments.runner import Experiment, Part, Parts, Work, run
from nststab.experiments.settings import ExperimentSettings
from nststab.measure.intervals import bootstrap_interval, mean_of_known
from nststab.storage.tables import Table
from nststab.styles.source import style_source
from nststab.tasks.workers import Processes, workers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

pytestmark = pytest.mark.usefixtures("unrendered")

FILES = {"results.json", "table.md", "figure.png", "figure.svg"}


@dataclass(frozen=True)
class Toy(Experiment):
    """Squares of numbers; it notes in `marks` what it measures, and may fail or die."""

    settings: ExperimentSettings
    marks: Path
    count: int = 4
    size: int = 32
    fails: int | None = None
    dies: int | None = None
    name = "toy"

    def identity(self) -> dict[str, Any]:
        return {"size": self.size, "count": self.count}

    def parts(self, found: Mapping[str, Any]) -> list[Part]:  # noqa: ARG002
        return [Part(f"square {number}", number) for number in range(self.count)]

    def measure(self, part: Part, work: Work) -> Any:
        with (self.marks / part.name).open("a") as file:
            file.write(f"{os.getpid()}\n")
        if part.name == "sum":
            return sum(value for value, _ in part.data)
        if part.data == self.fails:
            raise NststabError("out of order")
        if part.data == self.dies and len((self.marks / part.name).read_text().splitlines()) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.05)
        return list(work.counted([part.data**2])), (math.nan, 0.1 + 0.2)

    def rows(self, found: Mapping[str, Any]) -> list[Any]:
        return [{"square": found[f"square {number}"][0][0]} for number in range(self.count)]

    def more(self, rows: Sequence[Any], found: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        return {"sum": found.get("sum"), "unknown": math.nan}

    def table(self, rows: Sequence[Any], more: Mapping[str, Any]) -> Table:  # noqa: ARG002
        return Table("Toy", ("number", "square"), [(str(n), str(row["square"])) for n, row in enumerate(rows)])

    def draw(self, figure: "Figure", rows: Sequence[Any], more: Mapping[str, Any]) -> None:  # noqa: ARG002
        figure.subplots().plot([row["square"] for row in rows])


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    (tmp_path / "marks").mkdir()
    return Toy(ExperimentSettings(seed=7), tmp_path / "marks")


def measured(toy: Toy) -> dict[str, int]:
    return {path.name: len(path.read_text().splitlines()) for path in toy.marks.iterdir()}


def test_an_experiment_writes_its_folder(toy: Toy, tmp_path: Path) -> None:
    told: list[Any] = []
    results = run(toy, tmp_path / "out/toy", progress=told.append)
    folder = tmp_path / "out/toy"
    assert {path.name for path in folder.iterdir()} == FILES
    content = json.loads((folder / "results.json").read_text(), parse_constant=lambda text: pytest.fail(text))
    assert content == results.json()
    assert (content["settings"], content["seed"], content["unknown"]) == ({"size": 32, "count": 4}, 7, None)
    assert content["rows"] == [{"square": 0}, {"square": 1}, {"square": 4}, {"square": 9}]
    assert content["versions"].keys() >= {"nststab", "python", "torch", "numpy", "scikit-image"}
    assert (folder / "table.md").read_text() == results.markdown()
    assert results.table().splitlines()[-1].split() == ["3", "9"]
    assert (told[-1].done, told[-1].total, told[-1].finished) == (4, 4, True)


def test_parts_may_need_what_others_gave(toy: Toy, tmp_path: Path) -> None:
    class Summed(Toy):
        def parts(self, found: Mapping[str, Any]) -> list[Part]:
            squares = super().parts(found)
            values = [found[part.name][0][0] for part in squares if part.name in found]
            return [*squares, *([Part("sum", [(value, 0) for value in values])] if len(values) == self.count else [])]

    assert run(Summed(toy.settings, toy.marks), tmp_path / "out").more["sum"] == 14


def test_a_run_that_failed_resumes(toy: Toy, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "out"
    with pytest.raises(NststabError, match="out of order") as caught:
        run(replace(toy, fails=2), folder)
    assert "finished parts are kept" in caught.value.__notes__[0]
    assert not (folder / "results.json").exists()
    with pytest.raises(SettingError, match="size was 32, is 33"):
        run(replace(toy, size=33), folder)
    with caplog.at_level("INFO", "nststab"):
        run(toy, folder)
    assert "resuming" in caplog.text
    assert measured(toy) == {"square 0": 1, "square 1": 1, "square 2": 2, "square 3": 1}
    assert {path.name for path in folder.iterdir()} == FILES


def test_other_versions_do_not_resume(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NststabError):
        run(replace(toy, fails=2), tmp_path / "out")
    monkeypatch.setattr(runner, "versions", lambda: {"torch": "1.0"})
    with pytest.raises(SettingError, match=r"is 1\.0"):
        run(toy, tmp_path / "out")


def test_results_are_not_overwritten_unless_asked(toy: Toy, tmp_path: Path) -> None:
    run(toy, tmp_path / "out")
    before = (tmp_path / "out/results.json").read_bytes()
    with pytest.raises(SettingError, match=r"results\.json exists"):
        run(toy, tmp_path / "out")
    assert (tmp_path / "out/results.json").read_bytes() == before
    run(toy, tmp_path / "out", overwrite=True)


def test_nothing_is_left_of_what_never_began(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(NststabError):
        run(replace(toy, fails=0), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(SettingError, match="expected a folder"):
        run(toy, "")


def test_a_part_is_kept_as_it_is_and_a_damaged_one_is_none(tmp_path: Path) -> None:
    parts, name = Parts(tmp_path), "the_great_wave recurrent/blackswan"
    assert parts.get(name) is None
    parts.put(name, {"psnr": 0.1 + 0.2, "missing": math.nan, "pair": (1, 2)})
    found = parts.get(name)
    assert found is not None
    assert (found["psnr"], found["pair"]) == (0.1 + 0.2, [1, 2])
    assert math.isnan(found["missing"])
    assert parts.get("the_great_wave recurrent blackswan") is None  # would be the same file, but for its hash
    next(tmp_path.iterdir()).write_text("{")
    assert parts.get(name) is None


# other processes


def test_a_process_that_is_killed_and_a_part_that_fails_lose_nothing(toy: Toy, tmp_path: Path) -> None:
    alone = run(toy, tmp_path / "alone")
    for marks in ("again", "failed"):
        (tmp_path / marks).mkdir()
    dying = replace(toy, marks=tmp_path / "again", dies=1)
    failing = replace(toy, marks=tmp_path / "failed", fails=3)
    with Processes(2) as executor:
        with pytest.raises(NststabError, match="out of order"):
            run(failing, tmp_path / "other", executor=executor)
        results = run(dying, tmp_path / "many", executor=executor)
    run(replace(failing, fails=None), tmp_path / "other")
    assert measured(failing)["square 0"] == 1
    assert results.rows == alone.rows
    for file in FILES:
        assert (tmp_path / "alone" / file).read_bytes() == (tmp_path / "many" / file).read_bytes()
    assert measured(dying)["square 1"] >= 2
    assert str(os.getpid()) not in (dying.marks / "square 0").read_text().split()


def test_a_worker_of_a_cluster_that_is_killed_loses_nothing(toy: Toy, tmp_path: Path) -> None:
    distributed: Any = pytest.importorskip("distributed")
    alone = run(toy, tmp_path / "alone")
    marks = tmp_path / "again"
    marks.mkdir()
    dying = replace(toy, marks=marks, dies=1)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        workers(cluster=cluster.scheduler_address) as executor,
    ):
        results = run(dying, tmp_path / "many", executor=executor)
    assert results.rows == alone.rows
    assert measured(dying)["square 1"] >= 2
    assert (tmp_path / "alone/results.json").read_bytes() == (tmp_path / "many/results.json").read_bytes()


def test_jobs_and_a_cluster_exclude_each_other_and_none_is_here() -> None:
    with pytest.raises(SettingError, match="jobs has no effect on a cluster"), workers(2, "tcp://127.0.0.1:1"):
        pass
    with workers() as executor:
        assert executor is None


# figures, means, styles


@pytest.mark.rendered
def test_a_figure_is_the_same_every_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with drawing(tmp_path, name) as figure:
            figure.subplots().plot([1, 2, 4], label="text stays text")
    for suffix in ("png", "svg"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


def test_a_table_in_markdown() -> None:
    table = Table("Speed", ("method", "ms"), [("a|b", "1.0")], "On two cores.")
    assert table.markdown() == "**Speed**\n\n| method | ms |\n| --- | ---: |\n| a\\|b | 1.0 |\n\nOn two cores.\n"
    assert replace(table, title="", note="").markdown() == "| method | ms |\n| --- | ---: |\n| a\\|b | 1.0 |\n"


def test_the_bootstrap_interval_of_known_values() -> None:
    """Of normal values its half width is near 1.96 standard errors; it follows the seed; NaN are left out."""
    values = [math.sin(1.3 * k) for k in range(200)]
    low, high = bootstrap_interval(values)
    mean = sum(values) / len(values)
    error = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values) ** 2)
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.05)
    assert low < mean < high
    assert bootstrap_interval([*values, math.nan]) == (low, high)
    assert bootstrap_interval(values, seed=1) != (low, high)
    assert bootstrap_interval([3.0, 3.0, 3.0]) == (3.0, 3.0)
    assert all(map(math.isnan, bootstrap_interval([1.0])))


def test_the_mean_is_of_what_is_known() -> None:
    assert mean_of_known(iter([1.0, math.nan, 4.0])) == 2.5
    assert math.isnan(mean_of_known([math.nan]))
    assert math.isnan(mean_of_known([]))


def test_styles_are_named_by_their_files_and_known_by_all_of_them(tmp_path: Path) -> None:
    files = ("independent.safetensors", "recurrent.safetensors", "image.png")
    for name in ("wave-1.2", "wave-1.3"):
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_text(file)
    assert list(named_styles((tmp_path / "wave-1.2", tmp_path / "wave-1.3"))) == ["wave-1.2", "wave-1.3"]
    seen = set()
    for file in ("", *files):
        if file:
            (tmp_path / "wave-1.2" / file).write_text("changed")
        source = style_source(str(tmp_path / "wave-1.2"))
        seen.add(source.digest(("recurrent",)))
    assert len(seen) == 4
    (tmp_path / "the_great_wave.jpg").touch()
    with pytest.raises(SettingError, match="two that are called the_great_wave"):
        named_styles(("the_great_wave", tmp_path / "the_great_wave.jpg"))


def test_every_experiment_is_a_function_of_the_package() -> None:
    experiments = import_module("nststab.experiments")
    for name in experiments.__all__:
        assert callable(getattr(experiments, name)), name
