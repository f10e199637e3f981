"""Large tensors are not given back to the system between frames, and idle threads sleep."""

import os
import subprocess
import sys

import pytest

_FILL = """
import resource
import numpy as np
if {tuned}:
    from nststab.startup import tune_process
    tune_process()
np.ones(1 << 23).sum()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    np.ones(1 << 23).sum()  # 64 MiB
import os
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, os.environ.get("OMP_WAIT_POLICY"))
"""


def faults(tuned: bool, **environment: str) -> tuple[int, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "OMP_"))}
    code = _FILL.format(tuned=tuned)
    output = subprocess.run(
        [sys.executable, "-c", code], env=inherited | environment, capture_output=True, text=True, check=True
    ).stdout.split()
    return int(output[0]), output[1]


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_memory_of_a_frame_is_used_again_by_the_next() -> None:
    (before, _), (after, policy) = faults(False), faults(True)
    assert after < before / 4
    assert policy == "passive"


def test_an_environment_that_says_otherwise_is_left_alone() -> None:
    assert faults(True, OMP_WAIT_POLICY="active")[1] == "active"
