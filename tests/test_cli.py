"""The command line's help, names, defaults and messages; what the commands do is tested in test_cli_*.py."""

import re
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from click.testing import CliRunner, Result

import nststab
from nststab.cli import common, group
from nststab.cli.options import SettingOption
from nststab.errors import NststabError
from nststab.listener import reported
from nststab.styles import shipped as assets
from tests.conftest import told


def commands(command: click.Command = group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with its path, the root's being empty."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from commands(child, (*path, name))


COMMANDS = dict(commands())
NAMES = [" ".join(path) for path in COMMANDS]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(group, arguments)


def last_line(result: Result) -> str:
    return result.stderr.splitlines()[-1]


def test_help_answers_at_once() -> None:
    def seconds() -> float:
        """Of the processor: a busy machine is no fault of ours."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        call = [sys.executable, "-c", "from nststab.cli import main; main()", "--help"]
        assert "Usage: nststab" in subprocess.run(call, check=True, capture_output=True, text=True).stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    assert min(seconds() for _ in range(3)) < 0.7


def test_no_help_imports_torch() -> None:
    script = f"""
import sys
from nststab.cli import common, group
for name in {NAMES!r}:
    group.main([*name.split(), "--help"], standalone_mode=False)
heavy = {{"torch", "torchvision", "numpy", "scipy", "cv2", "av", "PIL", "skimage", "safetensors", "rich"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_commands_are_those_of_the_manual() -> None:
    names = [" ".join(path) for path, command in COMMANDS.items() if not isinstance(command, click.Group)]
    assert ", ".join(names) == (
        "stylize, optimize, preview, compare, evaluate stability, evaluate speed, evaluate gram-trace, evaluate "
        "distortions, evaluate theorem, evaluate drift, evaluate shift, deflicker, score, study collect, study "
        "make, study pack, study results, study serve, figure, train average, train image, train network, train style, "
        "train video, flow estimate, flow mask, flow show, export, live, web, styles, doctor, demo"
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_the_common_options_and_an_example_and_helps(name: str) -> None:
    command = COMMANDS[tuple(name.split())]
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    flags = {flag for option in options for flag in option.opts}
    assert {"-q", "--quiet", "-v", "--verbose", "--debug"} <= flags
    assert all(option.help for option in options)
    assert all(flag == flag.lower() and "_" not in flag for flag in flags)
    assert command.help
    assert not name or not command.get_short_help_str(limit=60).endswith("...")
    for flag in ("-h", "--help"):
        shown = run(*name.split(), flag)
        assert shown.exit_code == 0
        assert shown.stdout.startswith(f"Usage: {' '.join(['nststab', *name.split()])} [OPTIONS]")
    if not isinstance(command, click.Group) and not name.startswith(("evaluate", "study", "export")):
        assert f"\n  nststab {name}" in shown.stdout


@pytest.mark.parametrize("name", ["stylize", "optimize", "compare"])
def test_help_shows_the_fifteen_options_that_people_use(name: str) -> None:
    shown = run(name, "--help").stdout
    options = shown[shown.index("Options") :].splitlines()
    assert len([line for line in options if line.startswith("  -")]) == 15 + 1  # and --help-all
    assert "--precision" not in shown


@pytest.mark.parametrize("name", NAMES)
def test_an_option_is_not_given_by_default(name: str) -> None:
    """Its default stands in the settings, and in the help; None leaves it there."""
    options = [one for one in COMMANDS[tuple(name.split())].params if isinstance(one, SettingOption)]
    assert all(option.default is None for option in options)
    has_more = any("--help-all" in one.opts for one in COMMANDS[tuple(name.split())].params)
    shown = " ".join(run(*name.split(), "--help-all" if has_more else "--help").stdout.split())
    for option in options:
        assert option.opts[0] in shown


def test_version() -> None:
    assert run("--version").stdout == f"nststab, version {nststab.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("stylise", "No such command 'stylise'. Did you mean stylize or styles?"),
        ("xyzzy", "No such command 'xyzzy'."),
        ("flow estmate", "No such command 'estmate'. Did you mean estimate?"),
        ("train imag", "No such command 'imag'. Did you mean image?"),
        ("--verbos stylize", "--verbos"),
        ("stylize", "Missing argument 'INPUT'."),
        ("compare {file} -o x.mp4", "--style: none was given; there are composition_xiv, mosaic"),
        ("stylize {file} -o x.png", "--style: none was given; there are composition_xiv, mosaic"),
        ("stylize {file} --style mosaic", "Missing option '-o' / '--output'."),
        ("stylize {file} --iteration 3", "--iterations"),
        ("stylize {file} -o x.png --style mosaic --method recurent", "did you mean recurrent?"),
        ("stylize {file} -o x.png --style mosaic --method nothing", "choose from recurrent, independent, ruder, gatys"),
        ("stylize {file} -o x.png --style mosaic --set gatys.optimizer=lbgfs", "did you mean lbfgs?"),
        ("stylize {file} -o x.png --style mosaic --device cud", "did you mean cuda"),
        ("stylize {file} -o x.png --style mosaic --precision float23", "did you mean float32"),
        ("compare {file} -o x.png --style mosaic --methods independent,rudder", "did you mean ruder?"),
    ],
)
def test_wrong_usage_is_answered_with_what_is_right(arguments: str, message: str) -> None:
    assert message in told(run(*arguments.format(file=__file__).split()))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (NststabError("expected this,\n  got that"), "Error: expected this, got that"),
        (OSError(28, "No space left on device", "out.mp4"), "Error: out.mp4: No space left on device"),
        (torch.OutOfMemoryError("Tried to allocate\n2 GiB"), "Error: out of memory; smaller frames need less"),
        (MemoryError(), "Error: out of memory"),
        (NststabError(), "Error: NststabError"),
    ],
)
@pytest.mark.parametrize("position", ["before", "after"])
def test_an_error_is_one_line_and_debug_shows_where(
    monkeypatch: pytest.MonkeyPatch, error: Exception, message: str, position: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("nststab.tasks.stylize.open_clip", fail)
    monkeypatch.setattr("nststab.tasks.stylize.chosen_style", fail)
    arguments = ["stylize", __file__, "-o", "x.png", "--style", __file__.replace(".py", ".png")]
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1
    assert last_line(result).startswith(message)
    debugged = run("--debug", *arguments) if position == "before" else run(*arguments, "--debug")
    assert debugged.exception is error


@pytest.mark.parametrize("error", [ValueError("of ours"), RuntimeError("out of memory, we say")])
def test_a_fault_of_ours_shows_its_traceback(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(assets, "styles", fail)
    assert run("styles").exception is error


def test_warnings_are_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    def warn() -> list[assets.Style]:
        warnings.warn("the loss\ndiverged", RuntimeWarning, stacklevel=1)
        return []

    monkeypatch.setattr(assets, "styles", warn)
    assert run("styles").stderr == "note: the loss diverged\n"
    assert run("-q", "styles").stderr == run("styles", "-q").stderr == ""


@pytest.mark.parametrize("name", ["stylize", "optimize", "compare"])
def test_the_options_of_the_optimisers_stand_apart(name: str) -> None:
    shared, own = run(name, "--help-all").stdout.split("Options of ruder and gatys:")
    for flag in ("--style-weight", "--passes", "--flow-method", "--seed"):
        assert f"\n  {flag} " in own
        assert f"\n  {flag} " not in shared
    for flag in ("--size", "--start", "--preserve-color", "--device"):
        assert f"\n  {flag}" in shared


def test_an_output_that_exists_is_refused_before_torch_is_imported(tmp_path: Path) -> None:
    commands = (
        "stylize {file} -o {file} --style mosaic",
        "optimize {file} {file} -o {file}",
        "compare {file} -o {file} --style mosaic",
        "compare {file} -o new.mp4 --html {page}",
        "deflicker {file} {file} -o {file}",
        "train image {file} --photos . -o {file}",
        "train average {file} {file} -o {file}",
        "train network {file} --photos . -o {file}",
        "train style {file} --photos . -o {folder}",
        "evaluate speed -o {folder}",
        "evaluate stability --davis . -o new --html {page}",
        "score {file} {file} --json {page}",
        "score {file} {file} --html {page}",
        "flow estimate {file} -o {folder}",
        "flow mask {file} {file} -o {file}",
        "flow show {file} -o {file}",
        "styles {file} --sheet {file}",
        "demo -o {file}",
        "export mosaic -o {file}",
    )
    names = {name: tmp_path / name for name in ("file", "folder", "page.html")}
    names["folder"].mkdir()
    for path in (names["file"], names["page.html"], names["folder"] / "results.json"):
        path.write_text("mine")
    given = [one.format(file=names["file"], folder=names["folder"], page=names["page.html"]) for one in commands]
    said = told_without_torch(given)
    told = re.findall(rf"Error: {tmp_path}/\S+ exists; say -y to overwrite it\n False\n", said)
    assert "".join(told) == said
    assert len(told) == len(commands)


def told_without_torch(commands: Sequence[str]) -> str:
    """What each says on stderr, and whether torch was imported by then."""
    script = (
        "import sys; from click.testing import CliRunner; from nststab.cli import group\n"
        "for command in sys.argv[1:]: print(CliRunner().invoke(group, command.split()).stderr, 'torch' in sys.modules)"
    )
    return subprocess.run([sys.executable, "-c", script, *commands], capture_output=True, text=True, check=True).stdout


def test_what_is_not_there_or_cannot_be_written_is_told_before_torch_is_imported(tmp_path: Path) -> None:
    file = tmp_path / "painting.png"
    file.write_text("a picture, as far as the name says")
    style, folder = "'mosaik'; did you mean mosaic", "nowhere: the folder to write to does not exist"
    picture = f"the style {tmp_path}/paintin.png does not exist; did you mean {file}?"
    commands = {
        "stylize {file} --style mosaik -o out.mp4": style,
        "stylize {file} --style light/mosaic,mosaik -o out.mp4": style,
        "stylize {file} --style mosaic -o {file}s/../nowhere/out.mp4": folder,
        "optimize {file} {wrong} -o out.png": picture,
        "compare {file} --style {wrong} -o out.mp4": picture,
        "preview {file} --styles mosaic,{wrong} -o out.png": picture,
        "preview {file} --styles mosaic --html nowhere/out.html": folder,
        "score {file} {file} --style {wrong}": picture,
        "stylize {file} --style mosaic -o out.mp5": "out.mp5: cannot write .mp5; expected .gif, .mkv,",
        "demo -o out": "out: cannot write a name without a suffix",
        **({"live 977 --style mosaic": "camera 977: there is none"} if sys.platform.startswith("linux") else {}),
        "live {file} --style {wrong}": picture,
        "web mosaic {wrong} --serve": picture,
        "export mosaik -o out.onnx": style,
        "export mosaic -o nowhere/out.onnx": folder,
        "train network {file} mosaik --photos . -o out.safetensors": style,
        "train image {file} --photos . -o out.safetensors --start-from mosaik": style,
        "evaluate stability --davis . --styles mosaic,mosaik -o out": style,
        "styles mosaik": style,
        "study make --input {file} --clips ours={file} theirs={wrong} -o out": f"did you mean {file}?",
    }
    said = told_without_torch([one.format(file=file, wrong=tmp_path / "paintin.png") for one in commands])
    lines = [line for line in said.splitlines() if line != " False"]
    assert said.splitlines()[1::2] == [" False"] * len(commands)
    for line, message in zip(lines, commands.values(), strict=True):
        assert line.startswith("Error: ")
        assert message in line


def test_a_long_job_tells_a_pipe_now_and_then_what_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    tell = common._Lines()
    with reported(tell, "recurrent 64x48, frames", 3000) as advance:
        advance(100)  # of an earlier run
        for second in range(1, 131):
            clock[0] = float(second)
            advance(100 + 10 * second, note="note" if second > 100 else "")
    assert capsys.readouterr().err.splitlines() == [
        "recurrent 64x48, frames: 200 of 3000, about 0:04:40 left",
        "recurrent 64x48, frames: 800 of 3000, about 0:03:40 left",
        "recurrent 64x48, frames: 1400 of 3000, about 0:02:40 left, note",
    ]
    with reported(tell, "of a pipe", None) as advance:
        clock[0] += 11
        advance(5)
    with reported(tell, "short", 2) as advance:
        advance(1)
    assert capsys.readouterr().err == "of a pipe: 5\n"
