"""nststab doctor: what works on this machine, and what to do about what does not."""

import importlib
import platform
import re
import shlex
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import click

import nststab
from nststab.cli.common import verbosity_options
from nststab.tasks.checks import CHECKS, PIP, Check, Finding, examine, reason, reinstall

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
    "click": "click>=8.1",
    "rich": "rich>=13",
}


@click.command("doctor", short_help="Check what works on this machine.")
@verbosity_options
@click.pass_context
def command(ctx: click.Context) -> None:
    """Check what works on this machine, and say what to do about what does not.

    The exit code is 0 where all works that the four methods need, 1 otherwise. `none` is no fault: a device or an
    instruction that this machine does not have.
    """
    findings = report()
    count = sum(finding.state == "not ok" for finding in findings)
    if count == 0:
        click.echo("all works")
    elif any(finding.state == "not ok" and finding.needed for finding in findings):
        click.echo(f"{count} not ok")
        ctx.exit(1)
    else:
        click.echo(f"{count} not ok, and none of them is needed by recurrent, independent, ruder or gatys")


def report() -> list[Finding]:
    """All findings, printed as they come."""
    findings = list(_printed("packages", _packages))
    if any(finding.state == "not ok" and finding.name in ("torch", "numpy", "Pillow") for finding in findings):
        click.echo("  the other checks need torch, numpy and Pillow")
        return findings
    for title, checks in CHECKS.items():
        findings += _printed(title, *checks)
    return findings


def _printed(title: str, *checks: Check) -> Iterator[Finding]:
    click.echo(title)
    for check in checks:
        for finding in examine(check):
            click.echo(f"  {finding.state:6}  {finding.name:21}  {finding.text}")
            if finding.advice:
                click.echo(f"{'':33}-> {finding.advice}")
            yield finding


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
        loaded = _opencv() if module == "cv2" else importlib.import_module(module)
        found = str(getattr(loaded, "__version__", None) or metadata.version(distribution))
        if module == "av":
            number = ".".join(map(str, loaded.library_versions["libavcodec"]))
            found += f" with FFmpeg {getattr(loaded, 'ffmpeg_version_info', '')} (libavcodec {number})"
    except Exception as error:  # a torchvision of another torch raises RuntimeError, a missing libGL ImportError
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


def _advice(module: str, requirement: str, error: Exception) -> str:
    """The command that brings a package which cannot be imported."""
    if module == "cv2" and not isinstance(error.__cause__, ModuleNotFoundError):
        return ""  # the message says it: it depends on the library which is missing
    if module == "torchvision" and not isinstance(error, ModuleNotFoundError):
        # built for another torch; both must come from one index
        return f"{PIP} install --upgrade --force-reinstall torch torchvision"
    missing = isinstance(error, ModuleNotFoundError) or isinstance(error.__cause__, ModuleNotFoundError)
    return f"{PIP} install {shlex.quote(requirement)}" if missing else reinstall(requirement)
