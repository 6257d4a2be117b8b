"""A pinned checkpoint is never let go, whenever the trainer is killed between pinning and saving."""

from __future__ import annotations

from pathlib import Path

import pytest

from safelight.config import UserError
from safelight.store import checkpoint_files
from safelight.store.checkpoint import save
from safelight.store.checkpoint_files import BEST, Pin, list_steps, prune
from safelight.store.journal import read
from safelight.store.journal_writer import JournalWriter


def run_with(tmp_path: Path, *steps: int) -> JournalWriter:
    for step in steps:
        save(tmp_path, step, {"memory": {}}, {})
    (tmp_path / "journal.jsonl").touch()
    return JournalWriter(tmp_path / "journal.jsonl")


def test_pinned_checkpoints_outlive_pruning(tmp_path):
    with run_with(tmp_path, 10, 20, 30, 40) as writer:
        checkpoint_files.pin(tmp_path, BEST, Pin(20, "FD 4.2", {"value": 4.2}), writer)
        assert prune(tmp_path, [40]) == [10, 30]
        assert list_steps(tmp_path) == [20, 40]
        assert prune(tmp_path, []) == [40]  # the pinned one is the one that is left
        assert list_steps(tmp_path) == [20]


def test_a_name_moves_to_another_step_and_other_names_stay(tmp_path):
    with run_with(tmp_path, 10, 20, 30) as writer:
        checkpoint_files.pin(tmp_path, BEST, Pin(10, "FD 4.2", {"value": 4.2}), writer)
        checkpoint_files.pin(tmp_path, "mine", Pin(20, "liked", {}), writer)
        checkpoint_files.pin(tmp_path, BEST, Pin(30, "FD 3.1", {"value": 3.1}), writer)
        assert checkpoint_files.read_pins(tmp_path) == {
            BEST: Pin(30, "FD 3.1", {"value": 3.1}),
            "mine": Pin(20, "liked", {}),
        }
        assert prune(tmp_path, [30]) == [10]
    pins = [
        (entry.fields["name"], entry.fields["step"])
        for entry in read(tmp_path / "journal.jsonl").of_kind("pin")
    ]
    assert pins == [(BEST, 10), ("mine", 20), (BEST, 30)]


def test_a_pin_is_journalled_before_it_is_made_and_may_wait_for_its_checkpoint(tmp_path):
    class Killed(Exception):
        pass

    def die(stage: str) -> None:
        if stage == "pins.rename":
            raise Killed

    with run_with(tmp_path, 10, 20) as writer:
        checkpoint_files.pin(tmp_path, BEST, Pin(10, "FD 4.2", {}), writer)
        with pytest.raises(Killed):
            checkpoint_files.pin(tmp_path, BEST, Pin(30, "FD 3.1", {}), writer, die)
        assert checkpoint_files.read_pins(tmp_path)[BEST].step == 10
        assert [entry.fields["step"] for entry in writer.journal.of_kind("pin")] == [10, 30]
        checkpoint_files.pin(tmp_path, BEST, Pin(30, "FD 3.1", {}), writer)
        assert prune(tmp_path, [20]) == [10]  # 30 is not there yet, and not missed
        assert list_steps(tmp_path) == [20]


def test_damage_is_told_and_nothing_is_deleted(tmp_path):
    with run_with(tmp_path, 10, 20) as writer:
        checkpoint_files.pin(tmp_path, BEST, Pin(10, "FD 4.2", {}), writer)
    path = tmp_path / checkpoint_files.FILE
    path.write_bytes(path.read_bytes().replace(b"10", b"20"))
    with pytest.raises(UserError, match=r"pins\.json: is damaged"):
        prune(tmp_path, [20])
    assert list_steps(tmp_path) == [10, 20]
    assert checkpoint_files.read_pins(tmp_path / "elsewhere") == {}
