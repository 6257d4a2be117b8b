"""Runs on disk: made whole, found by name, one writer at a time, listed without torch."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from safelight.config import UserError
from safelight.engine.fingerprint import differences
from safelight.store import checkpoint_files, durable, journal, listing, lock, metrics
from safelight.store import results as evaluations
from safelight.store.checkpoint_files import Pin
from safelight.store.directory import RunDirectory, create, find, runs_directory
from safelight.store.info import Facts, Parent
from safelight.store.journal_writer import JournalWriter
from safelight.store.listing import list_runs, summary

FACTS = Facts({"sha256": "00"}, {"version": "1"}, {"threads": 2}, {"precision": "bf16"})
TEXT = "[train]\nsteps = 3 # Zürich\n"


def make(runs: Path, name: str | None = None, parent: Parent | None = None) -> RunDirectory:
    return create(runs, TEXT, recipe="digits", steps=300, facts=FACTS, name=name, parent=parent)


def test_a_run_holds_what_it_was_made_from(tmp_path: Path) -> None:
    parent = Parent("ab" * 16, 500, "cd" * 32)
    run = make(tmp_path / "runs", "first", parent)
    assert run.path == tmp_path / "runs" / "first"
    assert sorted(os.listdir(run.path)) == ["journal.jsonl", "recipe.toml", "run.json"]
    assert run.recipe_text() == TEXT
    info = run.info()
    assert (info.recipe, info.steps, info.facts, info.parent) == ("digits", 300, FACTS, parent)
    assert len(info.id) == 32
    assert info.id != make(tmp_path / "runs").info().id
    assert run.journal().entries == []


def test_automatic_names_count_above_all_in_use(tmp_path: Path) -> None:
    assert [make(tmp_path).name for _ in range(2)] == ["digits-1", "digits-2"]
    (tmp_path / "digits-10").mkdir()
    (tmp_path / "digits-30b").mkdir()
    assert make(tmp_path).name == "digits-11"


def test_a_name_that_is_taken_is_refused_and_left_alone(tmp_path: Path) -> None:
    first = make(tmp_path, "first").info()
    with pytest.raises(UserError, match="first: exists already; resume it, or choose another name"):
        make(tmp_path, "first")
    assert RunDirectory(tmp_path / "first").info() == first


def test_a_name_taken_meanwhile_is_refused_or_counted_past(tmp_path: Path) -> None:
    def make_meanwhile(stage: str) -> None:
        if stage == "run.rename" and not list(tmp_path.glob("digits-1")):
            make(tmp_path, "digits-1")

    with pytest.raises(UserError, match="digits-1: exists already"):
        create(
            tmp_path, TEXT, recipe="digits", steps=1, facts=FACTS, name="digits-1", announce=make_meanwhile
        )
    assert os.listdir(tmp_path) == ["digits-1"]
    (tmp_path / "digits-1").rename(tmp_path / "aside")
    run = create(tmp_path, TEXT, recipe="digits", steps=1, facts=FACTS, announce=make_meanwhile)
    assert run.name == "digits-2"


@pytest.mark.parametrize(
    "name", ["", "a/b", "a\\b", ".hidden", "..", "-flag", "a b", "a\n", "x" * 201, "dot."]
)
def test_a_name_that_cannot_be_a_directory_everywhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot name a run"):
        make(tmp_path, name)
    assert not list(tmp_path.iterdir())


def test_names_of_any_script_can_name_a_run(tmp_path: Path) -> None:
    assert find(make(tmp_path, "größe_肌-2.1+b").name, tmp_path).recipe_text() == TEXT


def test_a_full_disk_leaves_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(durable.os, "fsync", full)
    with pytest.raises(UserError, match="the disk is full"):
        make(tmp_path)
    assert not list(tmp_path.iterdir())


def test_runs_are_found_by_name_or_path_and_a_miss_says_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(tmp_path / "runs", "skylines-1")
    assert find("skylines-1", tmp_path / "runs") == run
    assert find(run.path, tmp_path / "elsewhere") == run
    monkeypatch.chdir(tmp_path)
    assert find("runs/skylines-1", Path("other")) == RunDirectory(Path("runs/skylines-1"))
    with pytest.raises(UserError, match=r"skyline-1: no such run in .*runs \(did you mean 'skylines-1'\?\)"):
        find("skyline-1", tmp_path / "runs")
    with pytest.raises(UserError, match=r"there is no directory .*nowhere"):
        find("x", tmp_path / "nowhere")


def test_where_runs_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAFELIGHT_RUNS", raising=False)
    assert runs_directory() == Path("runs")
    monkeypatch.setenv("SAFELIGHT_RUNS", "/data/runs")
    assert runs_directory() == Path("/data/runs")
    assert runs_directory(Path("here")) == Path("here")


def test_a_changed_recipe_is_noticed(tmp_path: Path) -> None:
    run = make(tmp_path)
    (run.path / "recipe.toml").write_text(TEXT.replace("3", "4"))
    with pytest.raises(UserError, match=r"recipe\.toml: was changed after the run was made; undo that"):
        run.recipe_text()


def test_a_second_writer_is_refused_by_name_and_readers_disturb_nobody(tmp_path: Path) -> None:
    run = make(tmp_path)
    assert not run.is_locked()
    with run.lock():
        assert run.is_locked()
        assert run.is_locked()
        with (
            pytest.raises(UserError, match=f"being written by process {os.getpid()} on .* since 20"),
            run.lock(),
        ):
            pytest.fail("two writers")
        assert run.is_locked()
    assert not run.is_locked()
    with run.lock():
        pass


def test_the_lock_waits_for_a_reader_s_glance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl
    import threading

    run = make(tmp_path)
    with run.lock():
        pass
    with (run.path / lock.LOCK).open("rb") as glance:
        fcntl.flock(glance, fcntl.LOCK_SH)
        assert not run.is_locked()  # two readers at once
        threading.Timer(0.1, fcntl.flock, (glance, fcntl.LOCK_UN)).start()
        with run.lock():
            assert run.is_locked()


def test_a_killed_writer_in_another_process_gives_the_run_back(tmp_path: Path) -> None:
    run = make(tmp_path)
    script = """
import sys, time
from pathlib import Path
from safelight.store.directory import RunDirectory
from safelight.store.journal_writer import JournalWriter
run = RunDirectory(Path(sys.argv[1]))
with run.lock(), JournalWriter(run.journal_path) as writer:
    writer.start_session(0, 300, {})
    print("ready", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script, str(run.path)], stdout=subprocess.PIPE) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            assert run.is_locked()
            assert summary(run).status == "running"
            with pytest.raises(UserError, match=f"process {writer.pid} on "), run.lock():
                pytest.fail("two writers")
        finally:
            os.kill(writer.pid, signal.SIGKILL)
    assert summary(run).status == "interrupted"
    with run.lock():
        owner = lock.owner(run.path)
        assert owner is not None
        assert owner.pid == os.getpid()


def test_the_lock_clears_what_a_crash_left_but_not_what_others_write(tmp_path: Path) -> None:
    run = make(tmp_path)
    (run.path / "checkpoints" / ".tmp-00000001-ab").mkdir(parents=True)
    (run.path / "sheets").mkdir()
    durable.temporary_beside(run.path / "sheets" / "00000001.png").touch()
    (run.path / ".tmp-report.md-0badcafe-1-0badcafe").touch()  # of another machine
    with run.lock():
        assert [path.name for path in run.path.rglob(".tmp-*")] == [".tmp-report.md-0badcafe-1-0badcafe"]


def train(run: RunDirectory, start: int, end: int) -> None:
    with JournalWriter(run.journal_path) as writer:
        session = writer.start_session(start, 400, {})
        with metrics.MetricsWriter(run.path, session, start) as rows:
            rows.append(
                metrics.MetricsRow(step, {"d": step / 10, "g": 0.5}, step / 10 + 0.5, {}, 1, 0.1, "")
                for step in range(start, end)
            )


def test_the_list_shows_where_every_run_stands(tmp_path: Path) -> None:
    run = make(tmp_path, "a")
    assert (summary(run).status, summary(run).step, summary(run).steps) == ("new", 0, 300)
    assert summary(run).headline == ""
    train(run, 0, 100)
    assert (summary(run).status, summary(run).step, summary(run).steps) == ("interrupted", 100, 400)
    assert summary(run).headline == "d 9.9, g 0.5"  # by name: the sum of what all networks lose ranks nothing
    for status in ("finished", "stopped", "failed"):
        with JournalWriter(run.journal_path) as writer:
            writer.end(status, 100, 500)
            writer.append("note", {"text": "x" * 20_000})
        assert (summary(run).status, summary(run).steps) == (status, 500)
    train(run, 90, 91)
    assert (summary(run).status, summary(run).step, summary(run).headline) == (
        "interrupted", 91, "d 9, g 0.5")  # fmt: skip
    with run.lock():
        assert summary(run).status == "running"


def test_the_list_shows_what_was_measured_with_its_floor(tmp_path: Path) -> None:
    run = make(tmp_path, "a")
    with metrics.MetricsWriter(run.path, 1, 0) as rows:
        rows.append(
            [metrics.MetricsRow(0, {"nll": 900.0, "kl": 3.0}, 903.0, {}, 1, 0.1, "", {"held_out/bpd*": -2.5})]
        )
    assert summary(run).headline == "bpd* -2.5"
    with JournalWriter(run.journal_path) as writer:
        checkpoint_files.pin(
            run.path, "best", Pin(20, "", {"metric": "FD", "value": 4.25, "floor": 0.5}), writer
        )
    assert summary(run).headline == "FD 4.25 (real 0.5)"
    results = {"KID": {"value": 0.25, "spread": None, "floor": None}, "precision": {"value": 1.0}}
    evaluations.store(run.path, "00000030-x", {"step": 30, "results": results})
    evaluations.store(run.path, "00000040-x", {"step": 40})  # of another version
    assert summary(run).headline == "KID 0.25"


def test_a_fork_shows_its_parents_numbers_until_it_trains(tmp_path: Path) -> None:
    run = make(tmp_path, "a")
    train(run, 0, 30)
    child = make(tmp_path, "b", Parent(run.info().id, 20, ""))
    assert (summary(child).status, summary(child).step, summary(child).headline) == (
        "forked",
        20,
        "d 1.9, g 0.5",
    )
    assert [line["step"] for line in listing.recorded(child)] == list(range(20))
    train(child, 20, 25)
    assert [line["step"] for line in listing.recorded(child)] == list(range(25))
    assert [row.step for row in listing.last_rows(child, 7, 24)] == list(range(17, 24))


def test_the_list_has_the_newest_first_and_says_what_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list_runs(tmp_path / "none") == []
    clock = iter("12345")
    monkeypatch.setattr(journal, "utc_now", lambda: next(clock))
    for name in "acbde":
        make(tmp_path, name)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / ".tmp-x").mkdir()
    damaged = tmp_path / "d" / "run.json"
    damaged.write_bytes(damaged.read_bytes().replace(b"digits", b"digitz"))
    (tmp_path / "e" / "journal.jsonl").unlink()
    healthy, broken = list_runs(tmp_path)[:3], list_runs(tmp_path)[3:]
    assert [run.name for run in healthy] == ["b", "c", "a"]
    assert {run.name: run.status for run in broken} == {"d": "damaged", "e": "damaged"}
    assert all("; restore" in run.problem or "; put back" in run.problem for run in broken)


def test_listing_imports_nothing_heavy(tmp_path: Path) -> None:
    train(make(tmp_path), 0, 3)
    script = """
import sys
from pathlib import Path
from safelight.store import checkpoint_files, inbox, journal, listing
(one,) = listing.list_runs(Path(sys.argv[1]))
assert one.step == 3
print([name for name in ("torch", "numpy", "safetensors", "filelock") if name in sys.modules])
"""
    arguments = [sys.executable, "-c", script, str(tmp_path)]
    result = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_differences_between_environments_are_said_in_words() -> None:
    before = {"torch": "2.13", "threads": 1, "gpu": {"name": "A100", "count": 2}, "cuda": "12"}
    now = {"torch": "2.13", "threads": 2, "gpu": {"name": "H100", "count": 2}, "isa": "avx2"}
    assert differences(before, before) == []
    assert differences(before, now) == [
        "cuda: 12, now unknown",
        "gpu.name: A100, now H100",
        "isa: unknown, now avx2",
        "threads: 1, now 2",
    ]


def test_a_fact_that_older_sessions_did_not_record_is_no_difference() -> None:
    """A run of before it was recorded opens, resumes and replays; between two that have it, it counts."""
    assert differences({"device": "cuda"}, {"device": "cuda", "tf32": "off"}) == []
    assert differences({"tf32": "on"}, {"tf32": "off"}) == ["tf32: on, now off"]
