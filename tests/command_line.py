"""The command line as a shell runs it, in this process."""

from __future__ import annotations

import sys

import pytest

import safelight.cli


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `safelight WORDS`."""
    monkeypatch.setattr(sys, "argv", ["safelight", *words])
    with pytest.raises(SystemExit) as end:
        safelight.cli.main()
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.out, captured.err
