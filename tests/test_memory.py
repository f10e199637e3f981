"""What the system says about memory, read from files in Linux' formats; and this process' own."""

import mmap
import os
import sys
from pathlib import Path

import pytest
import torch

from nststab.memory import Resident, available_memory, reset_peak, resident

GIB = 1 << 30
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells it in /proc")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A machine with 8 GiB to spare, and a process of 100 kB in no group."""
    write(tmp_path / "proc/meminfo", f"MemTotal:  999 kB\nMemFree:  17 kB\nMemAvailable: {8 * GIB // 1024} kB\n")
    write(tmp_path / "proc/self/status", "Name: python\nVmHWM:\t  300 kB\nVmRSS:\t  100 kB\n")
    write(tmp_path / "proc/self/cgroup", "0::/\n")
    return tmp_path / "proc"


HELD = 100 * 1024


def available(proc: Path) -> int | None:
    return available_memory("cpu", proc, proc.parent / "cgroup")


def test_what_is_held_counts_as_available(proc: Path) -> None:
    assert resident(proc) == Resident(HELD, 300 * 1024)
    assert available(proc) == 8 * GIB + HELD


def group(proc: Path, path: str, limit: str, used: int, cache: int = 0) -> None:
    """A control group of version 2."""
    folder = proc.parent / "cgroup" / path
    write(folder / "memory.max", limit + "\n")
    write(folder / "memory.current", f"{used}\n")
    write(folder / "memory.stat", f"anon 5\nactive_file 99\ninactive_file {cache}\n")


def test_the_narrowest_group_above_the_process_counts(proc: Path) -> None:
    write(proc / "self/cgroup", "0::/user/job/step\n")
    group(proc, "user/job/step", "max", 1 * GIB)
    group(proc, "user/job", str(3 * GIB), 2 * GIB)
    group(proc, "user", str(6 * GIB), 2 * GIB)
    assert available(proc) == 1 * GIB + HELD
    group(proc, "user", str(5 * GIB // 2), 2 * GIB)
    assert available(proc) == GIB // 2 + HELD


def test_a_groups_cache_that_is_not_in_use_is_available(proc: Path) -> None:
    group(proc, "", str(3 * GIB), 2 * GIB, cache=GIB)
    assert available(proc) == 2 * GIB + HELD


def test_a_group_over_its_limit_leaves_nothing(proc: Path) -> None:
    group(proc, "", str(GIB), 2 * GIB)
    assert available(proc) == HELD


def test_groups_of_version_1(proc: Path) -> None:
    write(proc / "self/cgroup", "5:cpu,cpuacct:/a\n4:memory:/docker/abc\n1:name=systemd:/docker/abc\n")
    folder = proc.parent / "cgroup/memory"  # inside a container the group itself is mounted as the root
    write(folder / "memory.limit_in_bytes", f"{4 * GIB}\n")
    write(folder / "memory.usage_in_bytes", f"{3 * GIB}\n")
    write(folder / "memory.stat", f"inactive_file 7\ntotal_inactive_file {GIB}\n")
    assert available(proc) == 2 * GIB + HELD
    write(folder / "memory.limit_in_bytes", "9223372036854771712\n")  # version 1 has no word for none
    assert available(proc) == 8 * GIB + HELD


@pytest.mark.parametrize("damage", ["self/cgroup", "self/status"])
def test_what_is_missing_is_left_out(proc: Path, damage: str) -> None:
    (proc / damage).unlink()
    assert (available(proc) or 0) >= 8 * GIB


def test_without_proc_it_is_the_physical_memory(tmp_path: Path) -> None:
    if hasattr(os, "sysconf"):
        assert available(tmp_path / "none") == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert resident(tmp_path / "none").peak >= 0
    assert not reset_peak(tmp_path / "none")


@linux
def test_this_process() -> None:
    assert reset_peak()
    before = resident()
    assert 0 <= before.peak - before.now < 20e6
    block = mmap.mmap(-1, 120_000_000)  # new memory, where a tensor may get what others have left
    torch.frombuffer(block, dtype=torch.uint8).fill_(1)
    held = resident()
    assert 100e6 < held.now - before.now < 140e6
    block.close()
    after = resident()
    assert after.now - before.now < 20e6
    assert after.peak > held.now - 5e6  # the kernel counts per thread, and adds up late
    assert reset_peak()
    assert resident().peak < held.now
