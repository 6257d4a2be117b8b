"""The short form of benchmarks/torture.py: a few kills, faults and mutations, in a process that forks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="watches its processes by pidfd_open, of Linux")
def test_promises_hold_where_runs_are_killed_disks_fail_and_files_lie():
    words = [
        "--families",
        "denoise",
        "--only",
        "kills,moments,faults,mutations,crafted,data",
        "--scale",
        "0.0025",
    ]
    ended = subprocess.run(
        [sys.executable, BENCHMARKS / "torture.py", *words], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    table = [line.strip("| ").split(" | ") for line in ended.stdout.splitlines() if line.startswith("|")]
    tried = {row[0]: int(row[1]) for row in table[2:]}
    assert tried == {
        "kills at system calls": 2,
        "kills at random moments": 1,
        "failing disks": 1,
        "mutated files": 5,
        "crafted runs": 1,
        "hostile data": 1,
    }
