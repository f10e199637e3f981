"""Two hundred mutated files of a fixed seed; more of them by tests/fuzz.py itself."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux, to fork safely")
def test_no_mutated_file_breaks_a_command(tmp_path: Path) -> None:
    fuzz = Path(__file__).with_name("fuzz.py")
    result = subprocess.run([sys.executable, str(fuzz), "200"], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-5000:]
    assert result.stdout == "0 of 200 cases ended wrongly\n"
