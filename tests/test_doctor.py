"""nststab doctor: the real machine, and machines on which something is missing."""

import importlib
import json
import shlex
import shutil
import subprocess
import sys
import tomllib
import types
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from nststab import memory
from nststab.cli import group
from nststab.styles import shipped as assets
from nststab.tasks import doctor as checks
from nststab.tasks.doctor import Finding

ROOT = Path(__file__).resolve().parents[1]
PIP = f"{shlex.quote(sys.executable)} -m pip"


def run(*arguments: str, width: str = "80") -> Result:
    return CliRunner(env={"COLUMNS": width}).invoke(group, ["doctor", *arguments])


def lines(result: Result) -> dict[str, tuple[str, str, str]]:
    """What was said of each thing that was looked at: the state, the text and the advice."""
    found: dict[str, tuple[str, str, str]] = {}
    name = ""
    for line in result.stdout.splitlines():
        if line.startswith(" " * 33 + "-> "):
            found[name] = (*found[name][:2], line.strip().removeprefix("-> "))
        elif line.startswith("  ") and line[2:8].strip() in ("ok", "not ok", "none"):
            name = line[10:31].strip()
            found[name] = line[2:8].strip(), line[33:], ""
    return found


def only(*chosen: Callable[[], Iterator[Finding]]) -> dict[str, tuple[Callable[[], Iterator[Finding]], ...]]:
    return {"packages": (checks._packages,), "what works": chosen}


def test_all_works_here() -> None:
    result = run()
    assert (result.exit_code, result.stderr) == (0, ""), result.stdout
    assert result.stdout.endswith("all works\n")
    said = lines(result)
    assert not [name for name, (state, _, _) in said.items() if state == "not ok"]
    assert {"torch", "opencv-contrib-python", "av", "Pillow", "cpu", "cuda", "mps", "arithmetic"} <= set(said)
    assert {"deepflow", "dis", "H.264 out", "VP9 out (.webm)", "ProRes in", "VGG-16", "the_great_wave"} <= set(said)
    assert {"flow cache", "memory", "disk"} <= set(said)


def test_a_reader_may_go_away() -> None:
    code = "from nststab.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-u", "-c", code, "doctor"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"packages\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1


def test_the_packages_are_those_of_the_project() -> None:
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    assert sorted(checks.PACKAGES.values()) == sorted(one.partition(";")[0] for one in stated)


def test_a_narrow_terminal_breaks_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "CHECKS", only(lambda: iter([Finding("long", "x " * 100)])))
    assert run(width="20").stdout == run(width="500").stdout


def test_a_missing_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.setattr(checks, "CHECKS", only(checks._deepflow, checks._dis, checks._weights))
    result = run()
    assert result.exit_code == 1
    said = lines(result)
    state, _, advice = said["opencv-contrib-python"]
    assert (state, advice) == ("not ok", f"{PIP} install 'opencv-contrib-python>=4.8'")
    for method in ("deepflow", "dis"):
        assert said[method][0] == "not ok"
        assert "pip install opencv-contrib-python" in said[method][1]
    assert said["VGG-16"][0] == "ok"
    assert result.stdout.endswith("\n3 not ok\n")


def test_openvino_may_be_missing_but_not_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where it has no wheel; `auto` takes torch there, and one that is installed, which it would take, must load."""
    monkeypatch.setattr(checks, "PACKAGES", {"openvino": "openvino>=2025.0"})
    monkeypatch.setattr(checks, "CHECKS", only(checks._packages))
    for name in [name for name in sys.modules if name.partition(".")[0] == "openvino"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "openvino", None)
    result = run()
    assert (result.exit_code, lines(result)["openvino"][0]) == (0, "none")
    monkeypatch.delitem(sys.modules, "openvino")
    (tmp_path / "openvino").mkdir()
    (tmp_path / "openvino/__init__.py").write_text("raise ImportError('libopenvino.so: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    result = run()
    state, text, advice = lines(result)["openvino"]
    assert (result.exit_code, state, advice) == (1, "not ok", f"{PIP} install --force-reinstall 'openvino>=2025.0'")
    assert "libopenvino.so: cannot open" in text


def test_an_opencv_without_the_contributed_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = types.ModuleType("cv2")
    plain.__version__ = "4.11.0"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cv2", plain)
    monkeypatch.setattr(checks, "CHECKS", only(checks._deepflow))
    result = run()
    assert result.exit_code == 1
    said = lines(result)
    assert said["opencv-contrib-python"][:2] == ("ok", "4.11.0")
    assert said["deepflow"][0] == "not ok"
    assert "pip uninstall opencv-python opencv-python-headless" in said["deepflow"][1]


def test_a_missing_av(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.delitem(sys.modules, "nststab.video.reader", raising=False)
    monkeypatch.setattr(checks, "CHECKS", only(checks._deepflow, checks._video, checks._codecs))
    result = run()
    assert result.exit_code == 1
    said = lines(result)
    assert said["av"][0::2] == ("not ok", f"{PIP} install 'av>=18,<19'")
    assert said["video"][0] == said["codecs"][0] == "not ok"
    assert "av" in said["video"][1]
    assert said["deepflow"][0] == "ok"


def test_a_missing_codec_is_told_with_what_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def codec(name: str, mode: str) -> None:
        if (name, mode) in missing:
            raise ValueError(f"no codec {name}")

    stub = types.SimpleNamespace(Codec=codec)
    real = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", lambda name: stub if name == "av" else real(name))
    monkeypatch.setattr(checks, "_packages", lambda: iter(()))
    monkeypatch.setattr(checks, "CHECKS", only(checks._codecs))
    missing = {("libopus", "w")}
    result = run()
    assert result.exit_code == 0
    assert lines(result)["Opus out (.webm)"] == (
        "not ok",
        "no codec libopus",
        f"{PIP} install --force-reinstall av --only-binary av",
    )
    assert "1 not ok, and none of them is needed by recurrent, independent, ruder or gatys" in result.stdout
    missing = {("libx264", "w")}
    assert run().exit_code == 1


def test_a_torchvision_of_another_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms\\ndoes not exist')\n")
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(checks, "CHECKS", only())
    result = run()
    assert result.exit_code == 0
    state, text, advice = lines(result)["torchvision"]
    assert (state, text) == ("not ok", "operator torchvision::nms does not exist")
    assert advice == f"{PIP} install --upgrade --force-reinstall torch torchvision"


@pytest.mark.parametrize(
    ("package", "version", "text", "advice"),
    [
        ("scipy", "1.9.3", "1.9.3, expected 1.11 or newer", "install --upgrade 'scipy>=1.11'"),
        ("av", "19.0.0", "19.0.0 with FFmpeg 9 (libavcodec 63.1), expected one before 19", "install 'av>=18,<19'"),
    ],
)
def test_a_package_of_the_wrong_age(
    monkeypatch: pytest.MonkeyPatch, package: str, version: str, text: str, advice: str
) -> None:
    other = types.ModuleType(package)
    other.__dict__.update(__version__=version, library_versions={"libavcodec": (63, 1)}, ffmpeg_version_info="9")
    monkeypatch.setitem(sys.modules, package, other)
    monkeypatch.setattr(checks, "CHECKS", only())
    result = run()
    assert result.exit_code == 1
    assert lines(result)[package] == ("not ok", text, f"{PIP} {advice}")


def test_it_runs_without_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; from nststab.cli import main; sys.argv[1:] = ['doctor']; main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert f"-> {PIP} install 'torch>=2.6'" in done.stdout
    assert "the other checks need torch, numpy and Pillow" in done.stdout


def test_an_exception_in_a_check_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Iterator[Finding]:
        yield Finding("first", "well")
        raise RuntimeError("of two\nlines")

    def sound() -> Iterator[Finding]:
        yield Finding("second", "well")

    monkeypatch.setattr(checks, "_packages", lambda: iter(()))
    monkeypatch.setattr(checks, "CHECKS", only(broken, sound))
    result = run()
    assert result.exit_code == 1
    said = lines(result)
    assert said == {"first": ("ok", "well", ""), "broken": ("not ok", "of two lines", ""), "second": ("ok", "well", "")}


def test_what_is_shipped_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    weights = tmp_path / "weights" / assets.perceptual_weights().name
    shutil.copy(assets.perceptual_weights(), weights)
    style = tmp_path / "styles" / "wave"
    style.mkdir(parents=True)
    (style / "card.json").write_text(json.dumps({"artist": "Hokusai", "year": 1831}))
    shutil.copy(assets.find_style("the_great_wave").checkpoint("independent"), style / "recurrent.safetensors")
    monkeypatch.setattr(assets, "_PACKAGE", tmp_path)
    monkeypatch.setattr(checks, "_packages", lambda: iter(()))
    monkeypatch.setattr(checks, "CHECKS", only(checks._weights, checks._styles))
    said = lines(run())
    assert said["VGG-16"] == ("ok", "layers to relu4_3", "")
    assert said["wave"][0] == "not ok"
    assert "is no network for recurrent" in said["wave"][1]
    (style / "independent.safetensors").write_bytes(b"rubbish")
    states = [finding.state for finding in checks.examine(checks._styles)]
    assert states == ["not ok", "not ok"]  # one does not hide the other
    shutil.copy(style / "recurrent.safetensors", style / "target.safetensors")
    (found,) = [one for one in checks.examine(checks._styles) if "Gram targets" in one.text]
    assert found.state == "not ok"
    weights.write_bytes(weights.read_bytes()[:-100])
    said = lines(run())
    assert said["weights"][0] == "not ok"
    assert weights.name in said["weights"][1]


def test_a_style_of_unknown_artist_with_targets_is_sound(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wave, style = assets.find_style("the_great_wave"), tmp_path / "styles" / "mine"
    style.mkdir(parents=True)
    (style / "card.json").write_text(json.dumps({"artist": None, "year": "unknown"}))
    for file in (wave.checkpoint("independent"), wave.target):
        shutil.copy(file, style)
    monkeypatch.setattr(assets, "_PACKAGE", tmp_path)
    found = list(checks.examine(checks._styles))
    assert [(one.state, one.text) for one in found] == [("ok", "independent"), ("ok", "Gram targets")]


def test_files_are_held_against_the_record_of_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    path = assets.perceptual_weights()
    recorded = types.SimpleNamespace(value="47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU")  # of nothing

    file = types.SimpleNamespace(hash=recorded, locate=lambda: path)
    monkeypatch.setattr(metadata, "distributions", lambda name: [types.SimpleNamespace(files=[file], name=name)])
    (finding,) = checks.examine(checks._weights)
    assert (finding.state, finding.text) == ("not ok", f"{path} is not what was installed")
    assert finding.advice == f"{PIP} install --force-reinstall nststab --no-deps"


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (finding,) = checks.examine(checks._cache)
    assert finding.state == "not ok"
    assert finding.advice == "set XDG_CACHE_HOME to a folder that can"
    assert not list(tmp_path.glob("*/*"))


def test_too_little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = types.SimpleNamespace(free=5e8, total=1e12)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    (finding,) = checks.examine(checks._disk)
    assert finding.state == "not ok"
    assert finding.text.startswith("0.5 GB free of 1000.0 GB in ")


def test_memory_is_what_the_job_may_take_beyond_what_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "resident", lambda: memory.Resident(10**9, 10**9))
    available = iter([1_500_000_000, 3_000_000_000, None])
    monkeypatch.setattr(memory, "available_memory", lambda: next(available))
    found = [finding for _ in range(3) for finding in checks.examine(checks._memory)]
    assert [finding.state for finding in found] == ["not ok", "ok", "none"]
    assert [finding.text.split(" free")[0] for finding in found[:2]] == ["0.5 GB", "2.0 GB"]


def test_a_driver_that_torch_does_not_find(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    (finding,) = checks.examine(checks._cuda)
    assert (finding.state, finding.needed) == ("not ok", False)
    assert "finds no device" in finding.text
