"""What works on this machine, and what to do about what does not: packages, devices, codecs, what is shipped, room."""

import importlib
import os
import platform
import re
import shlex
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import nststab

if TYPE_CHECKING:
    from nststab.styles.shipped import Style

PIP = f"{shlex.quote(sys.executable)} -m pip"
# What each codec is good for; the four methods need those of an .mp4.
_CODECS = (
    ("libx264", "w", "H.264 out", True),
    ("aac", "w", "AAC out", True),
    ("libvpx-vp9", "w", "VP9 out (.webm)", False),
    ("libopus", "w", "Opus out (.webm)", False),
    ("gif", "w", "GIF out", False),
    ("h264", "r", "H.264 in", True),
    ("hevc", "r", "HEVC in", False),
    ("vp9", "r", "VP9 in", False),
    ("prores", "r", "ProRes in", False),
    ("gif", "r", "GIF in", False),
)
# Modules, and the requirements they come from, as pyproject.toml states them.
PACKAGES = {
    "torch": "torch>=2.6",
    "torchvision": "torchvision>=0.21",
    "numpy": "numpy>=1.26",
    "scipy": "scipy>=1.11",
    "cv2": "opencv-contrib-python>=4.8",
    "av": "av>=18,<19",
    "PIL": "Pillow>=10.1",
    "safetensors": "safetensors>=0.4.3",
    "skimage": "scikit-image>=0.22",
    "matplotlib": "matplotlib>=3.8",
    "openvino": "openvino>=2025.0",
    "click": "click>=8.1",
    "rich": "rich>=13",
}
_LEAST_BYTES = 1e9  # of memory and of disk; 432x240 needs this much

State = Literal["ok", "not ok", "none"]


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what was found, and what to do; `needed` says that the four methods need it."""

    name: str
    text: str
    state: State = "ok"
    advice: str = ""
    needed: bool = True


Check = Callable[[], Iterator[Finding]]


def examine(check: Check) -> Iterator[Finding]:
    """What a check finds; an exception in it is a finding too."""
    try:
        with warnings.catch_warnings(action="ignore"):
            yield from check()
    except Exception as error:
        yield Finding(check.__name__.strip("_"), reason(error), "not ok")


def reason(error: Exception) -> str:
    """An error in one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def reinstall(requirement: str) -> str:
    """The command that brings a package which is broken."""
    return f"{PIP} install --force-reinstall {shlex.quote(requirement)}"


def _packages() -> Iterator[Finding]:
    yield Finding("nststab", nststab.__version__)
    yield Finding("Python", f"{platform.python_version()} ({sys.executable}), {platform.platform(terse=True)}")
    for module, requirement in PACKAGES.items():
        yield _package(module, requirement)


def _package(module: str, requirement: str) -> Finding:
    distribution, versions = requirement.split(">=")
    least, _, below = versions.partition(",<")
    needed = module != "torchvision"  # only --network downloads with it
    try:
        loaded = _LOADERS[module]() if module in _LOADERS else importlib.import_module(module)
        found = str(getattr(loaded, "__version__", None) or metadata.version(distribution)).partition("-")[0]
        if module == "av":
            number = ".".join(map(str, loaded.library_versions["libavcodec"]))
            found += f" with FFmpeg {getattr(loaded, 'ffmpeg_version_info', '')} (libavcodec {number})"
    except Exception as error:  # a torchvision of another torch raises RuntimeError, a missing libGL ImportError
        if module == "openvino" and isinstance(error.__cause__, ModuleNotFoundError):  # not every platform has it
            return Finding(distribution, "not installed: torch runs the networks", "none", needed=False)
        return Finding(distribution, reason(error), "not ok", _advice(module, requirement, error), needed)
    if _numbers(found) < _numbers(least):
        advice = f"{PIP} install --upgrade {shlex.quote(requirement)}"
        return Finding(distribution, f"{found}, expected {least} or newer", "not ok", advice, needed)
    if below and _numbers(found) >= _numbers(below):
        advice = f"{PIP} install {shlex.quote(requirement)}"
        return Finding(distribution, f"{found}, expected one before {below}", "not ok", advice, needed)
    return Finding(distribution, found, needed=needed)


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", re.split(r"[+ ]", version)[0])]


def _opencv() -> Any:
    """Through flow.py, which knows what a failed import leaves behind, and what to install."""
    from nststab.flow.estimators import require_estimator

    require_estimator("dis")
    return sys.modules["cv2"]


def _openvino() -> Any:
    """Through its engine, which keeps what reports its use out of reach."""
    from nststab.engines.openvino_engine import imported_openvino

    return imported_openvino()


_LOADERS = {"cv2": _opencv, "openvino": _openvino}


def _advice(module: str, requirement: str, error: Exception) -> str:
    """The command that brings a package which cannot be imported."""
    if module == "cv2" and not isinstance(error.__cause__, ModuleNotFoundError):
        return ""  # the message says it: it depends on the library which is missing
    if module == "torchvision" and not isinstance(error, ModuleNotFoundError):
        # built for another torch; both must come from one index
        return f"{PIP} install --upgrade --force-reinstall torch torchvision"
    missing = isinstance(error, ModuleNotFoundError) or isinstance(error.__cause__, ModuleNotFoundError)
    return f"{PIP} install {shlex.quote(requirement)}" if missing else reinstall(requirement)


_INSTALL_AGAIN = f"{reinstall('nststab')} --no-deps"


def processor() -> str:
    """The processor's name, its threads that are used, and its widest instructions."""
    import torch

    model = platform.processor() or platform.machine()
    listed = Path("/proc/cpuinfo")
    if listed.is_file() and (match := re.search(r"model name\s*: (.+)", listed.read_text("utf-8"))):
        model = match[1]
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{model}, {torch.get_num_threads()} threads of {os.cpu_count()}, {capability}"


def _processor() -> Iterator[Finding]:
    yield Finding("cpu", processor())


def _cuda() -> Iterator[Finding]:
    import torch

    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        yield Finding(f"cuda:{index}", f"{properties.name}, {properties.total_memory / 1e9:.1f} GB")
    if torch.cuda.is_available():
        return
    if shutil.which("nvidia-smi") is None:
        yield Finding("cuda", "no device", "none")
        return
    built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    advice = "compare `nvidia-smi` with https://pytorch.org/get-started/locally and install the torch that fits"
    text = f"there is a driver, but torch, built {built}, finds no device"
    yield Finding("cuda", text, "not ok", advice, needed=False)


def _mps() -> Iterator[Finding]:
    import torch

    there = torch.backends.mps.is_available()
    yield Finding("mps", "available" if there else "no device", "ok" if there else "none")


def _arithmetic() -> Iterator[Finding]:
    """What --device auto and --precision auto take."""
    from nststab.methods.build import machine

    chosen = machine("auto", "auto")
    fast = chosen.precision != "float32"
    text = f"{chosen.precision} on {chosen.device.type}" + ("" if fast else ": it has no 16-bit arithmetic")
    yield Finding("arithmetic", text, "ok" if fast else "none")


def _deepflow() -> Iterator[Finding]:
    yield _estimated("deepflow")


def _dis() -> Iterator[Finding]:
    yield _estimated("dis")


def _estimated(name: str) -> Finding:
    """Whether flow is found in two small pictures, one of them the other shifted."""
    import torch

    from nststab.flow.estimators import ESTIMATORS

    noise = torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    texture = torch.nn.functional.interpolate(noise, scale_factor=4, mode="bicubic").clamp(0, 1)
    flow = ESTIMATORS[name](texture[..., :-2], texture[..., 2:])  # (1, 2, 80, 94)
    found = float(flow[:, 0, 8:-8, 8:-8].mean())
    if abs(found + 2) > 0.2:
        return Finding(name, f"expected a motion of -2 pixels in a test picture, found {found:.2f}", "not ok")
    return Finding(name, "optical flow of a test picture is right")


def _video() -> Iterator[Finding]:
    from nststab.styles.shipped import demo_clip
    from nststab.video.clip import open_clip

    try:
        frame = next(iter(open_clip(demo_clip()).frames())).rgb
    except (OSError, ValueError) as error:
        yield Finding("video", reason(error), "not ok", reinstall("av"))
        return
    yield Finding("video", f"the demo clip is read: {frame.shape[-1]}x{frame.shape[-2]}")


def _codecs() -> Iterator[Finding]:
    try:
        codec = importlib.import_module("av").Codec
    except Exception as error:
        yield Finding("codecs", reason(error), "not ok", reinstall("av"))
        return
    for name, mode, purpose, needed in _CODECS:
        try:
            codec(name, mode)
        except Exception as error:  # av's own error classes
            yield Finding(purpose, reason(error), "not ok", f"{reinstall('av')} --only-binary av", needed)
        else:
            yield Finding(purpose, name, needed=needed)


def _weights() -> Iterator[Finding]:
    import torch

    from nststab.networks.perceptual import perceptual_network
    from nststab.styles.shipped import perceptual_weights

    network = perceptual_network(torch.device("cpu"))
    yield _shipped("VGG-16", perceptual_weights(), f"layers to {network.layers[-1]}")


def _styles() -> Iterator[Finding]:
    from nststab.styles.shipped import LIGHT, NETWORKS, light_network, light_styles, styles

    many = f"{len(light_styles())} styles"
    for method in NETWORKS:
        if light_network(method).is_file():
            yield _shipped(LIGHT, light_network(method), f"{method}, {many}")
    for style in styles():
        parts = {method: partial(_network, style, method) for method in style.methods}
        if style.target.is_file():  # else the networks' files hold them
            parts["Gram targets"] = partial(_targets, style)
        for name, check in parts.items():
            try:
                yield check()
            except Exception as error:  # the other styles may be sound
                yield Finding(style.name, f"{name}: {reason(error)}", "not ok", _INSTALL_AGAIN)


def _network(style: "Style", method: str) -> Finding:
    from nststab.networks.checkpoints import load_checkpoint

    path = style.checkpoint(method)
    if load_checkpoint(path).network.config.recurrent != (method == "recurrent"):
        return Finding(style.name, f"{path} is no network for {method}", "not ok", _INSTALL_AGAIN)
    about = " ".join(style.known("artist", "year"))
    return _shipped(style.name, path, f"{method}, {about}" if about else method)


def _targets(style: "Style") -> Finding:
    from nststab.networks.checkpoints import load_target

    load_target(style.target)
    return _shipped(style.name, style.target, "Gram targets")


def _shipped(name: str, path: Path, text: str) -> Finding:
    """Whether a file of weights is finite, and to the bit what the wheel brought, where that is on record."""
    from base64 import urlsafe_b64encode
    from hashlib import sha256

    from nststab.networks.checkpoints import read_tensors

    if not all(bool(value.isfinite().all()) for value in read_tensors(path)[0].values()):
        return Finding(name, f"{path} holds values that are not finite", "not ok", _INSTALL_AGAIN)
    for file in (file for wheel in metadata.distributions(name="nststab") for file in wheel.files or ()):
        if file.hash is not None and Path(str(file.locate())) == path:
            own = urlsafe_b64encode(sha256(path.read_bytes()).digest()).rstrip(b"=").decode()
            if own != file.hash.value:
                return Finding(name, f"{path} is not what was installed", "not ok", _INSTALL_AGAIN)
            text += ", as installed"
    return Finding(name, text)


def _cache() -> Iterator[Finding]:
    from nststab.flow.estimators import CACHE_BYTES, cache_folder

    folder = cache_folder()
    size = sum(path.stat().st_size for path in folder.glob("*.flo"))
    parent = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        advice = "set XDG_CACHE_HOME to a folder that can"
        yield Finding("flow cache", f"{folder} cannot be written: {reason(error)}", "not ok", advice)
        return
    yield Finding("flow cache", f"{folder}: {size / 1e9:.1f} GB, kept below {CACHE_BYTES / 1e9:.1f} GB")


def _memory() -> Iterator[Finding]:
    from nststab.memory import available_memory, resident

    available = available_memory()
    if available is None:
        yield Finding("memory", "unknown on this system", "none")
        return
    free, total = available - resident().now, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    text = f"{free / 1e9:.1f} GB free, the machine has {total / 1e9:.1f} GB"
    yield _room("memory", free, text, "close other programs")


def _disk() -> Iterator[Finding]:
    usage = shutil.disk_usage(".")
    text = f"{usage.free / 1e9:.1f} GB free of {usage.total / 1e9:.1f} GB in {Path.cwd()}"
    yield _room("disk", usage.free, text, "make room, or write elsewhere")


def _room(name: str, free: float, text: str, advice: str) -> Finding:
    return Finding(name, text) if free >= _LEAST_BYTES else Finding(name, text, "not ok", advice)


CHECKS: dict[str, tuple[Check, ...]] = {
    "packages": (_packages,),
    "devices": (_processor, _cuda, _mps, _arithmetic),
    "what works": (_deepflow, _dis, _video, _codecs),
    "what is shipped": (_weights, _styles),
    "room": (_cache, _memory, _disk),
}


def doctor() -> Iterator[tuple[str, Finding]]:
    """Each finding below its title, as it comes; only the packages where torch, numpy or Pillow are not ok."""
    broken = False
    for title, checks in CHECKS.items():
        for check in checks:
            for finding in examine(check):
                broken |= finding.state == "not ok" and finding.name in ("torch", "numpy", "Pillow")
                yield title, finding
        if broken:
            yield title, Finding("", "the other checks need torch, numpy and Pillow", "none")
            return


def verdict(findings: Sequence[Finding]) -> tuple[str, bool]:
    """All findings in a line, and whether everything works that the four methods need."""
    broken = [finding for finding in findings if finding.state == "not ok"]
    if not broken:
        return "all works", True
    if any(finding.needed for finding in broken):
        return f"{len(broken)} not ok", False
    return f"{len(broken)} not ok, and none of them is needed by recurrent, independent, ruder or gatys", True
