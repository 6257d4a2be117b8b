"""docs/sharing.md is true: its commands run, one after another, on a run called digits-1."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from command_line import run

TEXT = (Path(__file__).parents[2] / "docs" / "sharing.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line.startswith("safelight ")]
SAID = [line for block in BLOCKS for line in block.splitlines() if not line.startswith("safelight ")]


def test_its_commands_run_and_say_what_it_says(finished, tmp_path, monkeypatch, capsys):
    shutil.copytree(finished.path, tmp_path / "runs" / "digits-1")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    monkeypatch.chdir(tmp_path)
    printed = ""
    for command in COMMANDS:
        code, out, err = run(monkeypatch, capsys, *shlex.split(command)[1:])
        assert code == 0, (command, err)
        printed += out
    for line in SAID:
        assert line in printed


@pytest.mark.parametrize("size", re.findall(r"less than (\d) MB", TEXT))
def test_its_limit_is_the_limit(size):
    from safelight.sharing import pack

    assert int(size) * 1_000_000 == pack.SMALL
