"""What `--plan` predicts against what the same command then takes: peak memory and time, each in a process of its own.

python benchmarks/plan.py [--only TEXT ...] [--output plan.json]

The peak is the system's own account of the finished process (ru_maxrss), which includes the interpreter's start and
end. This program imports no large library, because a child's account begins with the size of its parent.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PHOTOS = 12  # of the training cases

CASES = {
    "independent float32, picture of 512x288": "stylize 512.png -o o.png {still} --precision float32",
    "independent float32, picture of 1280x720": "stylize 1280.png -o o.png {still} --precision float32",
    "independent bfloat16, picture of 1280x720": "stylize 1280.png -o o.png {still} --precision bfloat16",
    "recurrent float32, clip of 512x288": "stylize 512.mp4 -o o.mp4 {ff} --precision float32",
    "recurrent bfloat16, clip of 512x288": "stylize 512.mp4 -o o.mp4 {ff} --precision bfloat16",
    "recurrent bfloat16, clip of 512x288 to PNG": "stylize 512.mp4 -o frames/ {ff} --precision bfloat16",
    "recurrent bfloat16, clip of 512x288 to WebM": "stylize 512.mp4 -o o.webm {ff} --precision bfloat16",
    "recurrent bfloat16, clip of 512x288 to GIF": "stylize 512.mp4 -o o.gif {ff} --precision bfloat16",
    "recurrent float32, clip of 854x480": "stylize 854.mp4 -o o.mp4 {ff} --precision float32 --duration 1",
    "recurrent bfloat16, clip of 854x480": "stylize 854.mp4 -o o.mp4 {ff} --precision bfloat16 --duration 1",
    "recurrent bfloat16, clip of 1280x720": "stylize 1280.mp4 -o o.mp4 {ff} --precision bfloat16 --duration 0.6",
    "gatys float32, picture of 256x144, 25 iterations": "optimize 256.png {picture} --iterations 25 {f32}",
    "gatys float32, picture of 512x288, 25 iterations": "optimize 512.png {picture} --iterations 25 {f32}",
    "gatys float32, picture of 854x480, 4 iterations": "optimize 854.png {picture} --iterations 4 {f32}",
    "gatys float32, picture of 1280x720, 3 iterations": "optimize 1280.png {picture} --iterations 3 {f32}",
    "gatys bfloat16, picture of 256x144, 25 iterations": "optimize 256.png {picture} --iterations 25 {bf16}",
    "gatys bfloat16, picture of 512x288, 25 iterations": "optimize 512.png {picture} --iterations 25 {bf16}",
    "gatys bfloat16, picture of 854x480, 4 iterations": "optimize 854.png {picture} --iterations 4 {bf16}",
    "gatys bfloat16, picture of 1280x720, 3 iterations": "optimize 1280.png {picture} --iterations 3 {bf16}",
    "gatys float32 by adam, 512x288": "optimize 512.png {picture} --iterations 5 --set gatys.optimizer=adam {f32}",
    "ruder float32, clip of 256x144": "optimize 256.mp4 {film} --iterations 20,10 --duration 0.2 {f32}",
    "ruder float32, clip of 512x288": "optimize 512.mp4 {film} --iterations 4,3 --duration 0.2 {f32}",
    "ruder float32, clip of 854x480": "optimize 854.mp4 {film} --iterations 3,2 --duration 0.12 {f32}",
    "ruder bfloat16, clip of 256x144": "optimize 256.mp4 {film} --iterations 20,10 --duration 0.2 {bf16}",
    "ruder bfloat16, clip of 512x288": "optimize 512.mp4 {film} --iterations 4,3 --duration 0.2 {bf16}",
    "ruder bfloat16, clip of 854x480": "optimize 854.mp4 {film} --iterations 3,2 --duration 0.12 {bf16}",
    "flow estimate deepflow, 512x288": "flow estimate 512.mp4 -o flows/ {cache} --duration 0.6",
    "flow estimate deepflow, 854x480": "flow estimate 854.mp4 -o flows/ {cache} --duration 0.3",
    "flow estimate deepflow, 1280x720": "flow estimate 1280.mp4 -o flows/ {cache} --duration 0.2",
    "flow estimate dis, 854x480": "flow estimate 854.mp4 -o flows/ {cache} --duration 0.6 --flow-method dis",
    "compare independent and recurrent, 512x288": "compare 512.mp4 -o o.mp4 {ff} --duration 1",
    "train image float32, 256x256": "train image 512.png {photos} --steps 3 --precision float32",
    "train image bfloat16, 256x256": "train image 512.png {photos} --steps 3 --precision bfloat16",
    "train image float32, 384x384, batch 2": (
        "train image 512.png {photos} --steps 2 --precision float32 --height 384 --width 384 --batch 2"
    ),
    "train video bfloat16, 128x128": (
        "train video network.safetensors {photos} --steps 2 --precision bfloat16 --height 128 --width 128"
    ),
    "train video bfloat16, 256x256": "train video network.safetensors {photos} --steps 2 --precision bfloat16",
    "train video float32, 192x192": (
        "train video network.safetensors {photos} --steps 2 --precision float32 --height 192 --width 192"
    ),
}
_PARTS = {
    "picture": "the_great_wave -o o.png --work-size full",
    "film": "the_great_wave -o o.mp4 --work-size full --set flow.cache=cache",
    "f32": "--precision float32",
    "bf16": "--precision bfloat16",
    "ff": "--style the_great_wave --work-size full",
    "still": "--style the_great_wave --method independent --work-size full",
    "cache": "--flow-cache cache",
    "photos": "--photos photos -o o.safetensors",
}

# in a process of its own, so that this one stays small
_INPUTS = """
import shutil, sys
from pathlib import Path
import torch
import torch.nn.functional as F
from nststab.styles.shipped import find_style
from nststab.video.images import write_picture
from nststab.video.clip import convert_clip, open_clip

noise = torch.Generator().manual_seed(0)
coarse = torch.rand(1, 3, 18, 32, generator=noise)
for width in map(int, sys.argv[1:]):
    height = width * 9 // 16 // 2 * 2
    scene = F.interpolate(coarse, (2 * height, 2 * width), mode="bicubic").clamp_(0, 1)
    Path(str(width)).mkdir()
    for step in range(60):
        frame = scene[..., step : step + height, 2 * step : 2 * step + width]
        frame = (frame + 0.03 * torch.randn(frame.shape, generator=noise)).clamp(0, 1)
        write_picture(Path(f"{width}/{step}.png"), frame)
    shutil.copy(f"{width}/0.png", f"{width}.png")
    convert_clip(open_clip(str(width)), f"{width}.mp4", lambda frames: frames)
Path("photos").mkdir()
for number in range(%d):
    picture = F.interpolate(torch.rand(1, 3, 40, 50, generator=noise), (480, 600), mode="bicubic").clamp_(0, 1)
    write_picture(Path(f"photos/{number}.jpg"), picture)
shutil.copy(find_style("the_great_wave").checkpoint("independent"), "network.safetensors")
"""


class Run(NamedTuple):
    """A finished process: what it wrote to stdout, its peak in bytes, its time in seconds."""

    output: str
    peak: int
    seconds: float


def main() -> None:
    """Runs the chosen cases one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], metavar="TEXT", help="cases whose name holds one of these")
    parser.add_argument("--output", type=Path, default=Path("plan.json"))
    arguments = parser.parse_args()
    chosen = {name: case for name, case in CASES.items() if any(text in name for text in arguments.only)}
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        widths = sorted(set(re.findall(r"\b(\d+)\.(?:png|mp4)", " ".join(chosen.values()))), key=int)
        run(["-c", _INPUTS % PHOTOS, *widths], folder)
        print("| case | predicted GiB | measured GiB | error | predicted s | measured s |\n|---|---|---|---|---|---|")
        for name, case in chosen.items():
            row = measure(name, case.format(**_PARTS).split(), folder)
            rows.append(row)
            print(
                f"| {name} | {row['predicted_peak'] / 2**30:.2f} | {row['peak'] / 2**30:.2f} | {row['error']:+.1%} "
                f"| {row['predicted_seconds']:.1f} | {row['seconds']:.1f} |",
                flush=True,
            )
    machine = {"cpus": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}
    arguments.output.write_text(json.dumps({"machine": machine, "cases": rows}, indent=1) + "\n")


def run(arguments: list[str], folder: Path) -> Run:
    """Runs Python in `folder`; raises RuntimeError where it fails, with the end of what it said."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.monotonic()
        process = subprocess.Popen([sys.executable, *arguments], cwd=folder, env=environment, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0), err.seek(0)
        if process.returncode:
            raise RuntimeError(f"{' '.join(arguments)[-200:]} failed: {err.read().decode()[-400:]}")
        return Run(out.read().decode(), usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), seconds)


def measure(name: str, command: list[str], folder: Path) -> dict[str, Any]:
    """A row: what the plan says of a command, and what the command takes; seconds without the interpreter's start."""
    program = str(ROOT / "cli.py")
    start = run([program, "styles"], folder).seconds
    plan = run([program, *command, "--plan"], folder)
    rows = dict(line.split(maxsplit=1) for line in plan.output.splitlines())
    predicted = float(rows["memory"].split()[0]) * 2**30
    done = run([program, *command, "-y"], folder)
    return {
        "name": name,
        "command": " ".join(command),
        "predicted_peak": predicted,
        "peak": done.peak,
        "error": predicted / done.peak - 1,
        "predicted_seconds": _seconds(rows["time"].split(",")[0]),
        "seconds": done.seconds - start,
        "plan_seconds": plan.seconds,
        "plan": rows,
    }


def _seconds(duration: str) -> float:
    """Of a duration as the plan prints it: 3.2 s, 12 min, 2 h 5 min."""
    parts = re.findall(r"([\d.]+) (h|min|s)", duration)
    return sum(float(number) * {"h": 3600, "min": 60, "s": 1}[unit] for number, unit in parts)


if __name__ == "__main__":
    main()
