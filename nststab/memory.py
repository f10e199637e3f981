"""How much memory this process holds, and how much more it may take: what the system and its control groups say."""

import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch

_CGROUPS = Path("/sys/fs/cgroup")


class Resident(NamedTuple):
    """Bytes of physical memory that the process holds now, and the most that it held since `reset_peak`."""

    now: int
    peak: int


def gib(count: float) -> str:
    """A number of bytes in words."""
    return f"{count / 2**30:.2f} GiB"


def resident(proc: Path = Path("/proc")) -> Resident:
    """This process' memory, from Linux' /proc/self/status.

    Elsewhere `now` is unknown and both are the peak, where the system tells it, and 0 where it does not (Windows).
    """
    try:
        status = (proc / "self/status").read_text()
        now, peak = (re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE) for name in ("VmRSS", "VmHWM"))
    except OSError:
        now = peak = None
    if now and peak:
        return Resident(int(now[1]) * 1024, int(peak[1]) * 1024)
    try:
        import resource
    except ImportError:
        return Resident(0, 0)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Resident(used, used)


def reset_peak(proc: Path = Path("/proc")) -> bool:
    """Lets the peak of `resident` begin anew at what is held now; False where the system cannot (only Linux can)."""
    with suppress(OSError):
        (proc / "self/clear_refs").write_text("5")
        return True
    return False


def available_memory(
    device: torch.device | str = "cpu", proc: Path = Path("/proc"), cgroups: Path = _CGROUPS
) -> int | None:
    """Bytes that this process may hold in all, what it holds already included; None where the system does not tell.

    The least of what the machine has left (MemAvailable) and what the process' control groups, version 1 or 2, and
    those above them leave; of their use the page cache that is not in use does not count. Elsewhere than on Linux it is
    the physical memory. For CUDA it is the GPU's.
    """
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0]) + torch.cuda.memory_reserved(device)
    left = [_machine_left(proc), *_groups_left(proc, cgroups)]
    known = [value for value in left if value is not None]
    if known:
        return max(0, min(known)) + resident(proc).now
    with suppress(AttributeError, ValueError, OSError):  # Windows has no sysconf
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _machine_left(proc: Path) -> int | None:
    with suppress(OSError):
        if match := re.search(r"^MemAvailable:\s+(\d+) kB", (proc / "meminfo").read_text(), re.MULTILINE):
            return int(match[1]) * 1024
    return None


def _groups_left(proc: Path, cgroups: Path) -> list[int | None]:
    """What each control group of this process leaves, up to the root."""
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return []
    left: list[int | None] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = cgroups, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root, names = cgroups / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        folder = root / path.lstrip("/")
        # in a container the path may be the host's, while its own group is mounted as the root
        left += [_group_left(group, *names) for group in (folder, *folder.parents) if group.is_relative_to(root)]
    return left


def _group_left(group: Path, limit: str, usage: str, cache: str) -> int | None:
    """Limit minus use, without cache that can be dropped; None where there is no such group, or no limit."""
    try:
        most = (group / limit).read_text().strip()
        used = int((group / usage).read_text())
        droppable = re.search(rf"^{cache} (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
    except (OSError, ValueError):
        return None
    if most == "max":
        return None
    return int(most) - used + (int(droppable[1]) if droppable else 0)
