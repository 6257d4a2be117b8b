"""What goes wrong on disk while a run trains: a clear message, and a run that goes on to the same weights."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
import torch

from forks import Forks, serving
from safelight.config import UserError
from safelight.engine.distributed import World
from safelight.recipe import load
from safelight.store import checkpoint_files, journal_writer, metrics
from safelight.store.directory import RunDirectory, find
from safelight.store.listing import list_runs
from safelight.store.tape import TapeReader
from safelight.training.progress import Show
from safelight.training.start import begin, resume
from tiny import TINY

SHORT = TINY | {"train.steps": 16, "checkpoint.every": 4, "watch.every": 8, "sample.steps": 2}


@pytest.fixture(autouse=True)
def _no_report(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A report takes longer than these runs; it is drawn where it may notice the fault."""
    if request.function is not test_a_clock_that_jumps_back:
        monkeypatch.setattr("safelight.training.start.write_report", lambda directory: directory.path)


def trained(runs: Path, show: Show, **changes: object) -> RunDirectory:
    return begin(load("digits-class", SHORT | changes), runs, "b", World(), show)


def at(step: int, act: Callable[[], object]) -> Show:
    """A show that does something once, when the metrics of a step have been written."""
    done: list[object] = []

    def rows(seen) -> None:
        if seen[-1].step + 1 >= step and not done:
            done.append(True)
            act()

    return Show(rows=rows)


def digest(run: RunDirectory) -> str:
    return checkpoint_files.read(
        checkpoint_files.directory(run.path, checkpoint_files.list_steps(run.path)[-1])
    ).digest


def fingerprints(run: RunDirectory) -> list[str]:
    return list(metrics.read(run.path)["fingerprint"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> RunDirectory:
    return begin(load("digits-class", SHORT), tmp_path_factory.mktemp("runs"), "whole", World(), Show())


def assert_goes_on(run: RunDirectory, whole: RunDirectory, show: Show | None = None) -> None:
    """Resumed, the run ends in the weights of the uninterrupted one, by the same steps."""
    resume(run, World(), show or Show())
    assert digest(run) == digest(whole)
    assert fingerprints(run) == fingerprints(whole)
    assert run.journal().of_kind("end")[-1].fields["status"] == "finished"


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "the disk is full; free some space, then resume"),
        (errno.EDQUOT, "the disk quota is used up; free some space, then resume"),
        (errno.EROFS, "the file system is read-only; choose another place with --runs"),
        (errno.EIO, "the disk failed to read or write; check it, then resume"),
    ],
)
def test_a_disk_that_fails_on_the_way(monkeypatch, whole, tmp_path, number, message):
    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch, pytest.raises(UserError, match=re.escape(message)) as error:
        trained(tmp_path, at(8, lambda: patch.setattr(os, "fsync", fail)))
    assert "\n" not in str(error.value)
    run = find("b", tmp_path)
    assert checkpoint_files.newest_good(run.path) is not None
    assert_goes_on(run, whole)


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A small disk of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    if not hasattr(os, "geteuid") or os.geteuid() or not shutil.which("mount"):
        pytest.skip("needs root and the command mount")
    made = mount("-t", "tmpfs", "-o", "size=24m", "safelight-test", str(place))
    if made.returncode:
        pytest.skip(f"may not mount: {made.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def mount(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["mount", *words], capture_output=True, text=True, check=False)


def test_a_full_disk(disk, whole):
    filler = disk / "filler"

    def fill() -> None:
        with filler.open("wb", buffering=0) as file:
            free = shutil.disk_usage(disk).free
            while free:
                free -= file.write(bytes(min(free, 1 << 14)))

    with pytest.raises(UserError, match="the disk is full; free some space, then resume"):
        trained(disk, at(6, fill))
    run = find("b", disk)
    assert checkpoint_files.newest_good(run.path) is not None
    with pytest.raises(UserError, match="and 0 B are free; free some"):  # still
        resume(run, World(), Show())
    filler.unlink()
    assert_goes_on(run, whole)
    assert not [path for path in run.path.rglob("*") if path.name.startswith(".tmp")]


def test_a_read_only_disk(disk, whole):
    run = trained(disk, at(8, lambda: os.kill(os.getpid(), signal.SIGINT)))
    assert mount("-o", "remount,ro", str(disk)).returncode == 0
    try:
        with pytest.raises(UserError, match="the file system is read-only; choose another place"):
            resume(run, World(), Show())
        with pytest.raises(UserError, match="the file system is read-only"):
            begin(load("digits-class", SHORT), disk, "c", World(), Show())
        assert list_runs(disk)[0].name == "b"  # reading goes on
    finally:
        assert mount("-o", "remount,rw", str(disk)).returncode == 0
    assert_goes_on(run, whole)


def test_a_deleted_directory(tmp_path):
    """It is named, and not made again with half of its files."""
    with pytest.raises(
        UserError, match=r"b(/.*)?: it or its directory is gone; put back what was moved or deleted"
    ):
        trained(tmp_path, at(6, lambda: shutil.rmtree(tmp_path / "b")))
    assert not (tmp_path / "b").exists()
    with pytest.raises(UserError, match="b: no such run"):
        find("b", tmp_path)


@pytest.mark.parametrize("damaged", [1, 3])
def test_corrupted_checkpoints(whole, tmp_path, damaged):
    """The newest one, and all there are."""
    run = trained(tmp_path, at(12, lambda: os.kill(os.getpid(), signal.SIGINT)))
    steps = checkpoint_files.list_steps(run.path)
    for step in steps[-damaged:]:
        path = checkpoint_files.directory(run.path, step) / "networks.safetensors"
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    lines: list[str] = []
    assert_goes_on(run, whole, Show(warn=lines.append))
    left = steps[:-damaged]
    names = ", ".join(f"{step} (damaged)" for step in steps[-damaged:])
    expected = f"checkpoints put aside: {names}; continues from step {left[-1] if left else 0}"
    assert [line.split(":")[0] for line in lines[:damaged]] == [
        f"checkpoint {step} is not used" for step in reversed(steps[-damaged:])
    ]
    assert lines[damaged] == expected
    assert run.journal().of_kind("note")[0].fields["text"] == expected
    assert len(list((run.path / "checkpoints").glob("*.bad"))) == damaged


def test_a_torn_journal(whole, tmp_path):
    run = trained(tmp_path, at(8, lambda: os.kill(os.getpid(), signal.SIGINT)))
    data = run.journal_path.read_bytes()
    run.journal_path.write_bytes(data[: len(data) - 9])
    assert_goes_on(run, whole)
    assert len(run.journal().of_kind("repair")) == 1


def test_a_clock_that_jumps_back(monkeypatch, whole, tmp_path):
    """Order is that of the lines; times are only told."""
    hours = count()

    def earlier_each_time() -> str:
        return (datetime(2030, 1, 1, tzinfo=UTC) - timedelta(hours=next(hours))).isoformat()

    monkeypatch.setattr(journal_writer, "utc_now", earlier_each_time)
    run = trained(tmp_path, at(8, lambda: os.kill(os.getpid(), signal.SIGINT)))
    assert_goes_on(run, whole)
    times = [entry.time for entry in run.journal().entries]
    assert times == sorted(times, reverse=True)
    assert [listed.status for listed in list_runs(tmp_path)] == ["finished"]
    assert digest(run) in (run.path / "report.md").read_text(encoding="utf-8")


# --- crashes at every stage, in processes of their own --------------------------------------------------

STAGES = 60  # fsyncs and renames from the start of a session to its second or third checkpoint
CRASHED = TINY | {"checkpoint.every": 1, "checkpoint.keep": 2, "checkpoint.budget": "700 KB",
                  "tape.every": 1, "tape.keyframe": 3, "watch.every": 100_000, "watch.images": 1}  # fmt: skip


def crashing_session(runs: str, steps: int, number: int, after: bool) -> None:
    """A session that is killed before or after the fsync or rename of that number, if it comes so far."""
    calls = count(1)

    def crashing(call):
        def crash(*arguments, **options):
            last = next(calls) == number
            if not (last and not after):
                result = call(*arguments, **options)
            if last:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return crash

    for name in ("fsync", "rename", "replace"):
        setattr(os, name, crashing(getattr(os, name)))
    try:
        run = find("b", Path(runs))
    except UserError:
        recipe = load("digits-class", CRASHED | {"train.steps": steps})
        begin(recipe, Path(runs), "b", World(), Show())
    else:
        resume(run, World(), Show())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    ("steps", "stride", "rounds"),
    [(24, 17, 1), pytest.param(600, 1, 2, marks=pytest.mark.slow)],
    ids=["some", "every"],
)
def test_killed_at_every_stage(tmp_path_factory, steps, stride, rounds):
    """No run unreadable, no step lost that a checkpoint had, the same bits at the end."""
    runs = tmp_path_factory.mktemp("runs")
    with serving(tmp_path_factory.mktemp("forks")) as forks:
        numbers = [*range(1, STAGES, stride)] * rounds
        assert crash_again_and_again(forks, runs, steps, numbers) == 2 * len(numbers)
        forks.run("test_faults:crashing_session", [str(runs), steps, 0, True], 1, agent=False)
        whole = tmp_path_factory.mktemp("whole")
        forks.run("test_faults:crashing_session", [str(whole), steps, 0, True], 1, agent=False)
    run = find("b", runs)
    assert digest(run) == digest(find("b", whole))
    assert fingerprints(run) == fingerprints(find("b", whole))
    tape, other = TapeReader(run.path), TapeReader(whole / "b")
    assert tape.steps == other.steps == list(range(steps + 1))
    for step in tape.steps:
        weights = other.read(step)["denoiser"]
        assert all(torch.equal(weight, weights[name]) for name, weight in tape.read(step)["denoiser"].items())
    assert tape.damage == []


def crash_again_and_again(forks: Forks, runs: Path, steps: int, numbers: Sequence[int]) -> int:
    """Sessions on one run, each killed at the stage of a number. Returns how many were."""
    crashes, safe = 0, 0  # safe: the newest checkpoint that was there when a session began
    for number in numbers:
        for after in (False, True):
            launch = forks.start(
                "test_faults:crashing_session", [str(runs), steps, number, after], 1, agent=False
            )
            if launch.wait() == [0]:
                return crashes
            assert launch.err() == ""
            crashes += 1
            if not (runs / "b").exists():
                continue  # killed while the run was made: there is none, or all of it
            run = find("b", runs)
            entries = run.journal().of_kind("checkpoint")
            newest = checkpoint_files.newest_good(run.path)
            reached = newest.step if newest else 0
            assert reached >= max([safe, *(entry.fields["step"] for entry in entries)])
            rows = metrics.read(run.path, ["step"])["step"].tolist()
            assert rows == list(range(len(rows)))
            assert len(rows) >= reached
            safe = reached
    return crashes
