"""`--plan` of every long command, and the refusal of what does not fit into memory."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from click.testing import Result
from torch import Tensor

from nststab.frames import Frame
from nststab.methods.build import Machine
from nststab.methods.settings import PassSettings
from nststab.networks import transformation as networks
from nststab.styles.source import style_source
from nststab.tasks import clip_plan
from nststab.tasks.plan import Seconds
from nststab.tasks.settings import StylizeSettings
from nststab.tasks.stylize import opened
from nststab.video.clip import Clip, open_clip
from nststab.video.images import write_picture
from tests.conftest import TINY, Run, cli, save_frames, save_networks, save_vgg

ROOT = Path(__file__).resolve().parents[1]
VGG = "--vgg-weights vgg.safetensors"
TRAINING = f"{VGG} --photos photos -o o.safetensors --steps 2 --precision float32"
COMMANDS = {
    "stylize": "stylize film -o o/ --style recurrent.safetensors --precision float32",
    "ruder": f"stylize film -o o/ --style style.png --method ruder --iterations 7,3 {VGG}",
    "passes": f"stylize film -o o/ --style style.png --method ruder --passes 3 --iterations 7,3 {VGG}",
    "optimize": f"optimize film/0.png style.png -o o.png --iterations 7 --set gatys.scales=2 {VGG}",
    "compare": (
        "compare film -o o/ --style independent.safetensors --methods independent,gatys --iterations 7 "
        f"--precision float32 {VGG}"
    ),
    "image": f"train image style.png {TRAINING} --height 48 --width 64 --batch 2",
    "video": f"train video independent.safetensors {TRAINING} --height 48 --width 64 --length 2",
    "flow": "flow estimate film -o flows/ --distances 1,2",
}


def textures(height: int, width: int, count: int) -> list[Tensor]:
    coarse = torch.rand(count, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    return list(F.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1).chunk(count))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command beside a clip of 96x72, photographs, and networks of a few channels; probes take no time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(networks, "NetworkConfig", lambda: TINY)
    save_vgg(Path())
    frames = textures(72, 96, 5)
    save_frames("film", frames[:3], "{}.png")
    save_frames("photos", frames, "{}.png")
    write_picture(Path("style.png"), frames[-1])
    save_networks(Path(), frames[0])
    return cli


def rows(result: Result) -> dict[str, str]:
    return dict(line.split(maxsplit=1) for line in result.stdout.splitlines())


def tree() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_plan_says_what_it_takes_and_writes_nothing(run: Run, name: str) -> None:
    before = tree()
    result = run(f"{COMMANDS[name]} --plan")
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    said = rows(result)
    assert said["verdict"] == "fits"
    for row in ("memory", "available"):
        assert re.match(r"\d+\.\d\d GiB", said[row])
    count = {"optimize": 1, "image": 2, "video": 2}.get(name, 3)
    each = r", [\d.]+ (s|min) for each of the (frames|steps)" if count > 1 else ""
    assert re.fullmatch(r"[\d.]+ (s|min)" + each, said["time"])
    assert said["steps" if name in ("image", "video") else "frames"] == str(count)
    assert re.match(r"64x48 " if name in ("image", "video") else "96x72 ", said["probe"])
    assert tree() == before


def test_a_plan_names_sizes_and_method(run: Run) -> None:
    said = rows(run(f"{COMMANDS['compare']} --plan --size 64"))
    assert said["input"] == "film, 96x72"
    assert said["output"] == "o/, 192x48"
    assert said["method"] == "independent in float32; gatys in float32, 7 iterations"
    assert rows(run(f"{COMMANDS['ruder']} --plan --precision bfloat16"))["method"] == (
        "ruder in bfloat16, 7 iterations for the first frame, 3 for each later one"
    )
    assert rows(run(f"{COMMANDS['image']} --plan"))["crops"] == "64x48, 2 a step"


def test_what_stands_in_the_way_of_the_job_does_not_of_its_plan(run: Run) -> None:
    Path("o.png").write_bytes(b"there already")
    assert run(COMMANDS["optimize"]).exit_code == 2
    assert run(f"{COMMANDS['optimize']} --plan").exit_code == 0
    assert Path("o.png").read_bytes() == b"there already"


def test_an_unknown_number_of_frames_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nststab.tasks.stylize.opened", lambda *given: replace(opened(*given), frame_count=None))
    said = rows(run(f"{COMMANDS['stylize']} --plan"))
    assert said["frames"] == "not known before it is read"
    assert re.fullmatch(r"[\d.]+ s for each of the frames", said["time"])


def test_the_time_of_a_clip_is_that_of_all_its_frames(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_plan, "_iterations", lambda *_: [1.0, 2.0, 3.0])
    monkeypatch.setattr(clip_plan, "flow_seconds", lambda *_: 5.0)
    monkeypatch.setattr("nststab.tasks.flow.flow_seconds", lambda *_: 5.0)
    monkeypatch.setattr(clip_plan, "moving_seconds", lambda *_: Seconds.of([0.0001]))
    said = rows(run(f"{COMMANDS['ruder']} --plan"))
    assert said["range"] == "26 s to 55 s"  # iterations took 1 to 3 seconds, the flow always 5; a fifth more may come
    assert said["time"] == "36 s, 11 s for each of the frames"  # 7*2, twice 3*2+5
    assert rows(run(f"{COMMANDS['ruder']} --plan --set ruder.long_term=1,2"))["time"].startswith("46 s")
    # three passes over three frames: the first of 7, two of 3 iterations, and two flows
    assert rows(run(f"{COMMANDS['passes']} --plan"))["time"] == "88 s, 31 s for each of the frames"
    assert rows(run(f"{COMMANDS['flow']} --plan"))["time"] == "20 s, 10 s for each of the frames"
    # 7 iterations and, on a quarter of the pixels, 50; a quarter of the size has a side under 32 pixels and is left out
    for scales in (2, 3):
        assert rows(run(f"{COMMANDS['optimize']} --plan --set gatys.scales={scales}"))["time"] == "39 s"
    monkeypatch.setattr(clip_plan, "moving_seconds", lambda *_: Seconds.of([10.0]))
    assert rows(run(f"{COMMANDS['ruder']} --plan"))["time"] == "66 s, 21 s for each of the frames"


@pytest.mark.parametrize("output", ["o/", "o.v2/", "o.mp4", "o.gif", "o.y4m", "-", "o.webm"])
@pytest.mark.usefixtures("run")
def test_reading_and_writing_are_measured_on_the_first_frames(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    whole = Clip.frames

    def counted(clip: Clip) -> Iterator[Frame]:
        for frame in whole(clip):
            read.append(frame.number)
            yield frame

    monkeypatch.setattr(Clip, "frames", counted)
    monkeypatch.setattr(clip_plan, "_MOVED", 2)
    monkeypatch.setattr(clip_plan, "_LEAST_MOVED", 1)
    before = tree()
    seconds = clip_plan.moving_seconds(open_clip("film"), output, StylizeSettings(preserve_color=True), panels=2)
    assert 0 < seconds.later < 5
    assert max(read) == 1
    assert tree() == before


# A process of its own between this large one and the command: the system's account begins with the parent's size.
_LAUNCH = """
import json, os, subprocess, sys
process = subprocess.Popen([sys.executable, *sys.argv[1:]], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
said = process.stderr.read().decode()
_, status, usage = os.wait4(process.pid, 0)
print(json.dumps([status, usage.ru_maxrss * 1024, said]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak of a process is Linux' account")
@pytest.mark.parametrize(
    ("command", "size"),
    [
        ("stylize in.png -o o.png --style the_great_wave --method independent --precision float32", (768, 432)),
        ("optimize in.png the_great_wave -o o.png --iterations 3", (192, 144)),
        (
            "train image in.png --photos . -o o.safetensors --steps 1 --height 128 --width 128 --precision float32",
            (160, 160),
        ),
    ],
    ids=["independent", "gatys", "training"],
)
def test_the_predicted_peak_is_the_measured_one(command: str, size: tuple[int, int], tmp_path: Path) -> None:
    """In a process that computes nothing else; the plan of another one predicts it."""
    for number, picture in enumerate(textures(*size[::-1], 3)):
        write_picture(tmp_path / ("in.png" if number == 0 else f"{number}.png"), picture)
    launched = [sys.executable, "-c", _LAUNCH, str(ROOT / "cli.py"), *command.split()]
    result = subprocess.run(launched, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=True)
    status, peak, said = json.loads(result.stdout)
    assert status == 0, said
    planned = [sys.executable, str(ROOT / "cli.py"), *command.split(), "--plan"]
    plan = subprocess.run(planned, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=True).stdout
    predicted = re.search(r"memory +([\d.]+) GiB", plan)
    assert predicted
    assert float(predicted[1]) * 2**30 == pytest.approx(peak, rel=0.15)


@pytest.mark.usefixtures("run")
def test_frames_that_wait_for_the_last_of_several_passes_are_counted() -> None:
    """Enlarging needs each frame as it came, and passes give none before they have seen the whole shot."""
    save_frames("long", textures(72, 96, 40), "{}.png")

    def waiting(passes: int, work_size: int) -> float:
        settings = StylizeSettings(work_size=work_size, cuts=False, ruder=PassSettings(passes=passes))
        style, where = style_source("style.png"), Machine(torch.device("cpu"), "float32")
        return clip_plan.clip_work(open_clip("long"), "o/", ("ruder",), style, settings, where).waiting(96, 72)

    picture = 96 * 72 * 3 * 4
    assert waiting(3, 48) - waiting(1, 48) >= 30 * picture
    assert waiting(3, 96) == waiting(1, 96)
