"""Links, names and parents that somebody else wrote: one line each; nothing outside a run is touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from safelight.config import UserError
from safelight.store import renaming, sealed
from safelight.store.directory import find, names
from safelight.store.info import Parent
from safelight.store.listing import ancestors, owner_of, verdicts
from store.strange_runs import change, made


@pytest.mark.parametrize(
    "name", ["checkpoints", "inbox", "journal.jsonl", "sheets/a.png", "report.html", "lock", "logs/wandb"]
)
def test_a_link_out_of_a_run_is_followed_by_nobody(tmp_path: Path, name: str) -> None:
    run = made(tmp_path / "runs", "a")
    outside = tmp_path / "home"
    outside.mkdir()
    (outside / "token").write_text("secret")
    link = run.path / name
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(outside / "token" if "." in name or name == "lock" else outside)
    for use in (lambda: find("a", tmp_path / "runs"), lambda: run.lock().__enter__()):
        with pytest.raises(UserError, match=f"{name}: is a link out of the run, which is not followed"):
            use()
    assert (outside / "token").read_text() == "secret"
    assert os.listdir(outside) == ["token"]


def test_what_wandb_links_to_its_cache_is_left_to_it(tmp_path: Path) -> None:
    run = made(tmp_path / "runs", "a")
    link = run.path / "logs" / "wandb" / "offline-run-1" / "logs" / "debug-core.log"
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "cache.log")
    assert find("a", tmp_path / "runs").path == run.path
    elsewhere = run.path / "wandb"
    elsewhere.mkdir()
    (elsewhere / "debug-core.log").symlink_to(tmp_path / "cache.log")
    with pytest.raises(UserError, match="is a link out of the run"):
        find("a", tmp_path / "runs")


def test_links_within_a_run_and_to_a_run_are_fine(tmp_path: Path) -> None:
    run = made(tmp_path / "elsewhere", "a")
    (run.path / "newest.json").symlink_to("run.json")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "a").symlink_to(run.path)
    with find("a", tmp_path / "runs").lock():
        pass


def test_folders_that_go_too_deep_and_pipes_are_refused(tmp_path: Path) -> None:
    run = made(tmp_path, "a")
    (run.path / Path(*"abcdefghijk")).mkdir(parents=True)
    with pytest.raises(UserError, match="no run has folders as deep as this"):
        find("a", tmp_path)
    (run.path / "a").rename(tmp_path / "away")
    os.mkfifo(run.path / "sheet.png")
    with pytest.raises(UserError, match=r"sheet\.png: is a pipe, not a file"):
        find("a", tmp_path)


@pytest.mark.parametrize(
    "to", ["../home", "home/..", "/etc", "..", ".", "", 5, "a\0b", "linked", "empty", "none"]
)
def test_a_note_of_renaming_moves_nothing_but_a_run_of_its_folder(tmp_path: Path, to: object) -> None:
    runs, outside = tmp_path / "runs", made(tmp_path / "home", "x").path.parent
    for folder in (runs, runs / "empty"):
        folder.mkdir()
    (runs / "linked").symlink_to(outside / "x")
    (runs / ".renaming-nice.json").write_bytes(sealed.pretty({"to": to}))
    for write in (False, True):
        with pytest.raises(UserError):
            find("nice", runs, write=write)
    assert not (runs / "nice").exists()
    assert (outside / "x" / "run.json").is_file()
    assert (runs / "empty").is_dir()
    assert renaming.waits(runs, "../runs/nice") is None


def test_a_reader_finds_a_run_whose_renaming_was_cut_off_and_a_writer_finishes_it(tmp_path: Path) -> None:
    made(tmp_path, "aside")
    (tmp_path / ".renaming-nice.json").write_bytes(sealed.pretty({"to": "aside"}))
    assert find("nice", tmp_path).name == "aside"
    assert names(tmp_path) == ["aside"]
    assert find("nice", tmp_path, write=True).name == "nice"
    assert names(tmp_path) == ["nice"]


def test_a_run_that_came_from_itself_is_one_line(tmp_path: Path) -> None:
    run = made(tmp_path, "a")
    change(run, parent={"run": run.info().id, "step": 5, "digest": "d"})
    for use in (lambda: owner_of(run, 1), lambda: verdicts(run), lambda: list(ancestors(run))):
        with pytest.raises(UserError, match=r"a: came from itself \(by a\)"):
            use()
    other = made(tmp_path, "b", Parent(run.info().id, 3, "d"))
    change(run, parent={"run": other.info().id, "step": 4, "digest": "d"})
    with pytest.raises(UserError, match="came from itself"):
        owner_of(run, 1)
