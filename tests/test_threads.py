"""How many threads there are, and what they do while they wait for each other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import safelight
from safelight.cli import options
from safelight.config import UserError

GOMP = any(Path(torch.__file__).parent.glob("lib/libgomp*"))


def _python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    return subprocess.run(
        [sys.executable, "-c", code], env=plain | environment, capture_output=True, text=True, check=True
    )


@pytest.mark.skipif(not GOMP, reason="torch comes without libgomp")
def test_libgomp_has_the_limit_of_spinning_after_import_safelight() -> None:
    heard = _python("import safelight, torch; torch.get_num_threads()", OMP_DISPLAY_ENV="verbose").stderr
    assert f"GOMP_SPINCOUNT = '{safelight.SPINS}'" in heard


@pytest.mark.parametrize(("name", "value"), [("OMP_WAIT_POLICY", "active"), ("GOMP_SPINCOUNT", "7")])
def test_what_the_user_has_set_stays(name: str, value: str) -> None:
    code = "import safelight, os; print(os.environ.get('GOMP_SPINCOUNT'), os.environ.get('OMP_WAIT_POLICY'))"
    said = _python(code, **{name: value}).stdout.split()
    assert said == (["None", "active"] if name == "OMP_WAIT_POLICY" else ["7", "None"])


def test_the_threads_of_the_command_line_are_those_of_torch() -> None:
    code = "from safelight.cli import options; options._threads('1'); import torch"
    assert _python(f"{code}; print(torch.get_num_threads())").stdout.strip() == "1"


@pytest.mark.parametrize(("load", "free"), [(0.2, 4), (2.6, 1), (1.4, 3), (9.0, 1)])
def test_auto_leaves_busy_cores_to_others(load: float, free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(4)), raising=False)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0), raising=False)
    assert options.free_cores() == free


@pytest.mark.parametrize("text", ["0", "many", "-1", "1.5"])
def test_a_number_of_threads_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=rf"--threads {text}: is no number of threads"):
        options._threads(text)
