"""Long commands, killed again and again at random moments: the same command ends with an undisturbed run's bytes."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from nststab.video.images import write_picture
from tests.conftest import save_frames, save_networks, save_vgg, texture

ROOT = Path(__file__).resolve().parents[1]
KILLS = {"network": 20}  # of each of nine commands, else 4
pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux, to fork safely")

# Importing torch takes longer than these jobs, so one process imports all and forks a child for each run. That is safe
# as long as it has no other thread. The networks are tiny, and a state is saved after every step.
SERVER = """
import json, os, signal, sys, time
import av, cv2, rich.progress, safetensors.torch, torch, torch._dynamo
import nststab.methods.build, nststab.cli.train, nststab.cli.flow, nststab.cli.stylize, nststab.cli.optimize
import nststab.tasks.compare, nststab.tasks.train, nststab.flow.estimators, nststab.train.stages, nststab.video.writer
from nststab.networks import transformation as networks
from nststab.storage.parts import Parts
from nststab.tasks import train
from nststab.cli import group
tiny = networks.NetworkConfig(widths=(4, 6, 8), blocks=1)
train.NetworkConfig = lambda: tiny
Parts.length = 2
print("ready", flush=True)
for line in sys.stdin:
    assert len(os.listdir("/proc/self/task")) == 1, os.listdir("/proc/self/task")
    request = json.loads(line)
    child = os.fork()
    if child == 0:
        os.chdir(request["folder"])
        os.environ["XDG_CACHE_HOME"] = request["cache"]
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1), os.dup2(log, 2)
        code = 99
        try:
            group.main(args=request["arguments"], prog_name="nststab")
        except SystemExit as end:
            code = end.code
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)
    begun, ended, status = None, 0, 0
    while not ended:  # only who has not waited for a child yet may kill it: its number is no other's
        if begun is None and (request["wait_for"] is None or os.path.exists(request["wait_for"])):
            begun = time.monotonic()
        if begun and request["kill_after"] is not None and time.monotonic() - begun >= request["kill_after"]:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002)
        ended, status = os.waitpid(child, os.WNOHANG)
    print(status, flush=True)
"""


SLOW = """
import time


def blend(frames):
    before = None
    for frame in frames:
        time.sleep(0.01)
        before = frame.rgb if before is None else (before + frame.rgb) / 2
        yield frame.with_rgb(before)
"""


class Run(NamedTuple):
    """One run of a command: whether it was killed, else its exit code; what it said, and for how long it ran."""

    killed: bool
    code: int
    said: str
    seconds: float


class Commands:
    """Runs `nststab ...` in a folder, in children of a process that has imported everything."""

    def __init__(self, folder: Path, server: "subprocess.Popen[str]") -> None:
        self.folder, self._server = folder, server

    def run(self, arguments: str, cache: str, kill_after: float | None = None, wait_for: Path | None = None) -> Run:
        """Kills the command so many seconds after its start, or after `wait_for` is there."""
        log = self.folder / "log.txt"
        request = {
            "folder": str(self.folder),
            "cache": str(self.folder / cache),
            "log": str(log),
            "arguments": arguments.split(),
            "kill_after": kill_after,
            "wait_for": wait_for and str(self.folder / wait_for),
        }
        started = time.monotonic()
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        status = int(self._server.stdout.readline())
        killed = os.WIFSIGNALED(status)
        return Run(killed, -1 if killed else os.WEXITSTATUS(status), log.read_text(), time.monotonic() - started)


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """A folder with a film of six frames, a style, photographs, a tiny VGG and an independent network."""
    folder = tmp_path_factory.mktemp("kill")
    scene = texture(48, 64, 1)  # 48x48, as x264 rarely codes the same frames otherwise in a last row of parts of blocks
    save_frames(folder / "film", [scene[..., 2 * number : 2 * number + 48] for number in range(6)], "{}.png")
    save_frames(folder / "photos", [texture(48, 64, 10 + number) for number in range(6)], "{}.png")
    shots = [scene] * 15 + [1 - scene.flip(2) ** 3] * 9
    save_frames(folder / "long", [shot[..., n % 16 :][..., :48] for n, shot in enumerate(shots)], "{}.png")
    (folder / "slow.py").write_text(SLOW)
    write_picture(folder / "style.png", texture(48, 64, 2))
    save_vgg(folder)
    save_networks(folder, texture(32, 32, 2))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", SERVER],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdout.readline()
        yield Commands(folder, server)
        server.stdin.close()


def contents(path: Path) -> dict[str, bytes]:
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files if file.is_file()}


TRAIN = "--photos photos --vgg-weights vgg.safetensors --height 32 --width 32 --precision float32 --set save_seconds=0"
OPTIMIZE = "--vgg-weights vgg.safetensors --iterations"
METHODS = "recurrent,slow:blend"
JOBS = {
    "gatys": (f"stylize film --style style.png --method gatys {OPTIMIZE} 6 -o OUT/", ""),
    "ruder": (f"optimize film style.png {OPTIMIZE} 5,5 --set ruder.long_term=1,2 -o OUT.mp4", ".mp4"),
    "passes": (f"optimize film style.png {OPTIMIZE} 5,5 --passes 3 -o OUT/", ""),
    "network": ("stylize long --style recurrent.safetensors -o OUT.mp4", ".mp4"),
    "own": ("stylize long --method slow:blend -o OUT.mp4", ".mp4"),
    "compare": (
        f"compare long --style recurrent.safetensors --vgg-weights vgg.safetensors -o OUT.mp4 --methods {METHODS}",
        ".mp4",
    ),
    "flow": ("flow estimate film -o OUT --distances 1,2", ""),
    "image": (f"train image style.png {TRAIN} --steps 12 -o OUT.safetensors", ".safetensors"),
    "video": (f"train video independent.safetensors {TRAIN} --steps 8 --length 2 -o OUT.safetensors", ".safetensors"),
}


PASS = "passes/shot_0001/result_000001_pass_001.npy"  # where several passes keep the first result of the second frame


@pytest.mark.parametrize("job", JOBS)
def test_a_command_that_is_killed_goes_on_to_the_same_bytes(commands: Commands, job: str) -> None:
    command, suffix = JOBS[job]
    moments = random.Random(job)
    undisturbed = commands.run(command.replace("OUT", f"{job}_whole"), f"{job}_cache")
    assert undisturbed.code == 0, undisturbed.said
    expected = contents(commands.folder / f"{job}_whole{suffix}")
    killed, went_on, attempt, kills = 0, 0, 0, KILLS.get(job, 4)
    while killed < kills:  # a run may end before it is killed: then once more from the start
        attempt += 1
        name = f"{job}_{attempt}"
        kept = f"{name}{suffix}.unfinished/{PASS if job == 'passes' else 'frames'}"
        begun = Path(f"{name}{suffix}.unfinished/state.pt" if job in ("image", "video") else kept)
        while True:
            moment = moments.uniform(0, 0.4) * undisturbed.seconds if killed < kills else None
            wait_for = begun if killed == 0 else None  # so that one at least has something to go on from
            run = commands.run(command.replace("OUT", name), f"{name}_cache", moment, wait_for)
            went_on += "going on: " in run.said
            if not run.killed:
                break
            killed += 1
        # a kill after the last frame, before the process was gone, leaves a complete output, which is not overwritten
        assert run.code == 0 or (killed and f"{name}{suffix} exists; say -y" in run.said), run.said
        assert contents(commands.folder / f"{name}{suffix}") == expected
        assert not [path.name for path in commands.folder.rglob("*.part") if path.parent.name != "flow"]
        assert not list(commands.folder.rglob("job.json"))
    assert went_on >= 1
