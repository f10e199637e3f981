"""What experiments leave: results, tables, parts, figures, intervals; and their folder on the command line."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner, Result

from nststab.cli.common import COUNT, methods_option, setting
from nststab.experiments.cli_common import counting, optimizing_options, sources
from nststab.experiments.figures import drawing
from nststab.experiments.results import Parts, Results
from nststab.experiments.run import Run, decided, digests, experiment, show
from nststab.measure.intervals import bootstrap_interval, mean_of_known
from nststab.storage import tables
from nststab.storage.jobs import content_hash
from nststab.storage.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def test_results_hold_settings_versions_and_no_nan(tmp_path: Path) -> None:
    Results("speed", {"size": 32}, 7, [{"psnr": math.nan, "curve": [1.5, math.inf]}], {"fit": {"a": 2}}).write(tmp_path)
    content = json.loads((tmp_path / "results.json").read_text(), parse_constant=lambda text: pytest.fail(text))
    assert content["versions"].keys() >= {"nststab", "python", "torch", "numpy", "scikit-image"}
    del content["versions"]
    assert content == {
        "experiment": "speed",
        "settings": {"size": 32},
        "seed": 7,
        "rows": [{"psnr": None, "curve": [1.5, None]}],
        "fit": {"a": 2},
    }


def test_a_table_in_markdown() -> None:
    table = Table("Speed", ("method", "ms"), [("a|b", "1.0")], "On two cores.")
    assert table.markdown() == "**Speed**\n\n| method | ms |\n| --- | ---: |\n| a\\|b | 1.0 |\n\nOn two cores.\n"
    assert replace(table, title="", note="").markdown() == "| method | ms |\n| --- | ---: |\n| a\\|b | 1.0 |\n"


def test_a_part_is_computed_once(tmp_path: Path) -> None:
    calls = []

    def compute() -> dict[str, Any]:
        calls.append(1)
        return {"psnr": 0.1 + 0.2, "missing": math.nan, "pair": (1, 2)}

    name = "the_great_wave recurrent/blackswan"
    assert not Parts(tmp_path).done(name)
    first, second = Parts(tmp_path).get(name, compute), Parts(tmp_path).get(name, compute)
    assert Parts(tmp_path).done(name)
    assert len(calls) == 1
    assert first["psnr"] == second["psnr"] == 0.1 + 0.2
    assert first["pair"] == second["pair"] == [1, 2]
    assert math.isnan(second["missing"])
    assert not Parts(tmp_path).done("the_great_wave recurrent blackswan")  # would be the same file, but for its hash


def test_a_damaged_part_is_computed_again(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    parts.get("a", lambda: 1)
    next(tmp_path.iterdir()).write_text("{")
    assert parts.get("a", lambda: 2) == 2


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


def test_a_figure_is_the_same_every_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with drawing(tmp_path, name) as figure:
            figure.subplots().plot([1, 2, 4], label="text stays text")
    for suffix in ("png", "svg"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
    assert "<svg" in (tmp_path / "a.svg").read_text()


def test_a_figure_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), drawing(tmp_path):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


# the folder -o


def draw(figure: "Figure") -> None:
    figure.subplots().plot([1, 2])


@click.command()
@click.option("-o", "--output")
@setting("--size", 32, "Pixels.", COUNT)
@setting("--length", "all", "Frames.", COUNT)
@click.option("--seed", type=int)
@click.option("-y", "--yes", is_flag=True)
@click.option("--limit", type=int)
@click.option("--fail", is_flag=True)
@click.option("--before", is_flag=True)
def toy(fail: bool, before: bool, **options: Any) -> None:
    """An experiment of two parts, which may fail between them or before both."""
    with experiment("toy", options) as run:
        if before:
            raise ValueError("at once")
        run.parts.get("one", one)
        if fail:
            raise ValueError("between")
        run.parts.get("two", lambda: 2)
        finish(run)


def one() -> int:
    click.echo("computing one")
    return 1


def finish(run: Run) -> None:
    run.finish([{"psnr": 1.0}], Table("Toy", ("a", "b"), [("x", "1")]), draw, fit=3)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(toy, arguments)


def test_an_experiment_writes_its_folder(tmp_path: Path) -> None:
    result = call("-o", str(tmp_path / "out/toy"), "--limit", "3")
    assert result.exit_code == 0, result.stderr
    assert "Toy" in result.stdout
    folder = tmp_path / "out/toy"
    assert {path.name for path in folder.iterdir()} == {"results.json", "table.md", "figure.png", "figure.svg"}
    content = json.loads((folder / "results.json").read_text())
    assert (content["settings"], content["seed"], content["fit"]) == (
        {"limit": 3, "size": 32, "length": "all"},
        0,
        3,
    )


def test_a_killed_experiment_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    failed = call("-o", str(folder), "--fail")
    assert isinstance(failed.exception, ValueError)
    assert "finished parts are kept" in failed.exception.__notes__[0]
    assert not (folder / "results.json").exists()
    other = call("-o", str(folder), "--fail", "--limit", "2")
    assert (other.exit_code, "limit was not given, is 2" in other.stderr) == (2, True)
    again = call("-o", str(folder), "--fail")
    assert "computing one" not in again.stdout
    assert "going on" in again.stderr


def test_what_says_the_same_as_the_default_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    call("-o", str(folder), "--fail")
    other = call("-o", str(folder), "--size", "33")
    assert (other.exit_code, "size was 32, is 33" in other.stderr) == (2, True)
    assert "going on" in call("-o", str(folder), "--size", "32").stderr


def test_other_versions_do_not_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call("-o", str(tmp_path / "toy"), "--fail")
    monkeypatch.setattr(tables, "versions", lambda: {"torch": "1.0"})
    refused = call("-o", str(tmp_path / "toy"))
    assert (refused.exit_code, "is 1.0" in refused.stderr) == (2, True)


def test_streams_are_counted_together() -> None:
    seen: list[int] = []
    counted = counting(seen.append)
    first, second = counted(iter("ab")), counted(iter("c"))
    assert [next(first), next(second), next(first)] == ["a", "c", "b"]
    assert seen == [1, 2, 3]


@click.command()
@methods_option("independent,recurrent")
@optimizing_options
def settings_of(**options: Any) -> None:
    click.echo(json.dumps(decided(options)))


def test_settings_are_resolved_and_hold_contents_instead_of_places(tmp_path: Path) -> None:
    def said(*arguments: str) -> Any:
        return json.loads(CliRunner().invoke(settings_of, arguments).stdout)

    networks = {"methods": ["independent", "recurrent"], "perceptual_network": "the bundled VGG-16"}
    assert said("--flow-cache", str(tmp_path)) == networks
    optimised = {"methods": ["ruder"], "iterations": [500, 150], "flow_method": "deepflow"}
    assert said("--methods", "ruder") == networks | optimised
    assert said("--methods", "ruder", "--iterations", "7")["iterations"] == [7]
    weights = tmp_path / "vgg.safetensors"
    weights.write_text("a")
    first = said("--vgg-weights", str(weights))
    assert first["perceptual_network"] == f"vgg.safetensors ({content_hash(weights)})"
    weights.write_text("b")
    assert said("--vgg-weights", str(weights)) != first


def test_a_folder_s_name_has_no_suffix(tmp_path: Path) -> None:
    for name in ("wave-1.2", "wave-1.3"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "independent.safetensors").touch()
    assert list(sources((str(tmp_path / "wave-1.2"), str(tmp_path / "wave-1.3")))) == ["wave-1.2", "wave-1.3"]


def test_a_style_is_known_by_all_its_files(tmp_path: Path) -> None:
    names = ("independent.safetensors", "recurrent.safetensors", "image.png")
    for name in names:
        (tmp_path / name).write_text(name)
    seen = {digests(sources((str(tmp_path),)), ("recurrent",))[tmp_path.name]}
    for name in names:
        (tmp_path / name).write_text("changed")
        seen.add(digests(sources((str(tmp_path),)), ("recurrent",))[tmp_path.name])
    assert len(seen) == 4


def test_results_are_not_overwritten_unless_asked(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    assert call("-o", str(folder)).exit_code == 0
    before = (folder / "results.json").read_bytes()
    refused = call("-o", str(folder))
    assert (refused.exit_code, "say -y" in refused.stderr) == (2, True)
    assert (folder / "results.json").read_bytes() == before
    assert call("-o", str(folder), "-y").exit_code == 0


def test_an_empty_name_is_not_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused = call("-o", "")
    assert (refused.exit_code, "-o: expected a folder" in refused.stderr) == (2, True)
    assert not list(tmp_path.iterdir())


def test_a_narrow_terminal_cuts_nothing_off(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    show(Table("Toy", ("", *"abcdef"), [("independent", *["0.12345"] * 6)]))
    assert "\N{HORIZONTAL ELLIPSIS}" not in capsys.readouterr().out


def test_nothing_is_left_of_what_never_began(tmp_path: Path) -> None:
    assert call("-o", str(tmp_path / "toy"), "--before").exit_code == 1
    assert not list(tmp_path.iterdir())


def test_two_styles_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match="two that are called the_great_wave"):
        sources(("the_great_wave", str(tmp_path / "the_great_wave.jpg")))
