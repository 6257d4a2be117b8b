"""Runs that somebody else made, damaged or by intent: each is one line that says what is wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from safelight import files
from safelight.config import UserError
from safelight.store import checkpoint_files, metrics, retention, sealed
from safelight.store.journal_writer import JournalWriter
from safelight.store.listing import list_runs, summary
from store.strange_runs import change, made


def test_only_regular_files_are_opened_and_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    for name, why in (
        ("pipe", "is a pipe"),
        ("", "is a folder"),
        ("/dev/zero", "is a device"),
        ("a\0b", "no file"),
    ):
        with pytest.raises(files.Refused, match=why):
            files.read(tmp_path / name)
    assert files.read(tmp_path / "link") == b"12345"
    with pytest.raises(files.Refused, match="is a link"):
        files.read(tmp_path / "link", links=False)
    assert files.read(tmp_path / "file", limit=5) == b"12345"
    with pytest.raises(files.Refused, match="is larger than the 4 bytes"):
        files.read(tmp_path / "file", limit=4)


def test_a_line_that_is_too_long_is_empty_and_those_around_it_are_read(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    for length in (files.LONGEST - 1, files.LONGEST, files.LONGEST + 1, 3 * files.LONGEST):
        path.write_bytes(b"first\n" + b"x" * length + b"\nlast")
        first, middle, last = files.lines(path)
        assert (first, last) == (b"first", b"last")
        assert len(middle) == (length if length < files.LONGEST else 0)


def test_json_that_is_nested_too_deeply_is_no_json() -> None:
    with pytest.raises(ValueError, match="too deeply"):
        files.parse_json("[" * 200_000)
    assert sealed.unseal(b"[" * 200_000) is None


def test_fields_of_a_newer_minor_format_are_kept_and_passed_over(tmp_path: Path) -> None:
    run = made(tmp_path, "a")
    assert run.info().format == sealed.FORMAT
    before = run.info()
    change(run, format="1.9", later={"x": 1})
    with JournalWriter(run.journal_path) as writer:
        writer.append("pin", {"name": "best", "step": 2, "later": [1]})
    line = sealed.line({"time": "2031", "kind": "dream", "session": 1, "edits": 0, "step": "seven"})
    with run.journal_path.open("ab") as file:
        file.write(line)
    assert run.info().id == before.id
    assert summary(run).status == "interrupted"
    with JournalWriter(run.journal_path) as writer:
        writer.append("note", {"text": "after"})
    assert line in run.journal_path.read_bytes()
    assert b"later" in (run.path / "run.json").read_bytes()


def test_a_run_of_the_first_version_says_no_format_and_opens(tmp_path: Path) -> None:
    run = made(tmp_path, "a")
    fields = sealed.unseal((run.path / "run.json").read_bytes()) or {}
    (run.path / "run.json").write_bytes(sealed.pretty({k: v for k, v in fields.items() if k != "format"}))
    assert run.info().format == "1.0"


def test_a_newer_major_format_is_one_clear_line(tmp_path: Path) -> None:
    a, b, c = (made(tmp_path, name) for name in "abc")
    change(a, format="2.0")
    with JournalWriter(b.journal_path) as writer:
        writer._append("session", {"step": 3, "steps": 9, "format": "3.1"}, 2)
    _, _, rest = (c.path / "metrics-0001.jsonl").read_bytes().partition(b"\n")
    line = metrics._sealed({"session": 1, "start": 0, "format": "2.0"})
    (c.path / "metrics-0001.jsonl").write_bytes(line + rest)
    for run, version in ((a, "2.0"), (b, "3.1"), (c, "2.0")):
        assert summary(run).status == "damaged"
        assert (
            f"has format '{version}', and this safelight reads 1.1; install a newer" in summary(run).problem
        )


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"created": 5}, "created"),
        ({"facts": None}, "facts"),
        ({"steps": -1}, "steps"),
        ({"steps": 10**40}, "steps"),
        ({"steps": True}, "steps"),
        ({"parent": {"run": "x"}}, "parent.step"),
        ({"facts": {"data": {"train": "5"}, "code": {}, "environment": {}, "execution": {}}}, "train"),
        (
            {"facts": {"data": {"shape": [1, 8, 10**9]}, "code": {}, "environment": {}, "execution": {}}},
            "shape",
        ),
    ],
)
def test_a_run_json_of_another_form_is_one_line_that_names_the_field(
    tmp_path: Path, fields: dict[str, object], where: str
) -> None:
    run = made(tmp_path, "odd")
    change(run, **fields)
    assert f"odd/run.json: is not written as this safelight does it ({where}" in summary(run).problem
    assert "\n" not in summary(run).problem


def test_a_fact_that_is_not_there_is_named_where_it_is_needed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"run\.json: lacks 'fingerprint'"):
        made(tmp_path, "a").info().facts.data["fingerprint"]


def break_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


BREAK: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "deep": lambda path: path.write_bytes(b"[" * 200_000),
    "pipe": break_pipe,
    "device": lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
    "folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("name", ["run.json", "journal.jsonl", "metrics-0001.jsonl"])
@pytest.mark.parametrize("how", BREAK)
def test_one_bad_run_hides_no_other(tmp_path: Path, name: str, how: str) -> None:
    made(tmp_path, "good")
    bad = made(tmp_path, "bad")
    BREAK[how](bad.path / name)
    runs = {run.name: run for run in list_runs(tmp_path)}
    assert runs["good"].status == "interrupted"
    if name == "run.json" or how in ("pipe", "device", "folder"):
        assert runs["bad"].status == "damaged"
        assert name in runs["bad"].problem


@pytest.mark.parametrize(
    "fields",
    [
        {"a": 1},
        {"time": "2026", "kind": "end", "session": 1, "edits": 0},
        {"time": "2026", "kind": "end", "session": 1, "edits": 0, "status": "stopped", "step": "3",
         "steps": 9},
        {"time": "2026", "kind": "session", "session": 1, "edits": 10**40, "step": 3, "steps": 9},
        {"time": 2026, "kind": "note", "session": 1, "edits": 0},
        {"time": "2026", "kind": "intervention", "session": 1, "edits": 1, "step": 3, "changes": [], "id": "",
         "origin": ""},
    ],
)  # fmt: skip
def test_a_line_that_lacks_what_its_kind_has_is_damaged(tmp_path: Path, fields: dict[str, object]) -> None:
    run = made(tmp_path, "a")
    with run.journal_path.open("ab") as file:
        file.write(sealed.line(fields))
    assert summary(run).status == "interrupted"
    assert [entry.kind for entry in run.journal().entries] == ["session"]
    with JournalWriter(run.journal_path) as writer:  # as a torn line
        assert [entry.kind for entry in writer.journal.entries] == ["session", "repair"]


def test_an_entry_that_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    run = made(tmp_path, "a")
    before = run.journal_path.read_bytes()
    with JournalWriter(run.journal_path) as writer, pytest.raises(ValueError, match="an entry 'pin' needs"):
        writer.append("pin", {"name": "best", "step": "3"})
    assert run.journal_path.read_bytes() == before


def test_a_damaged_last_line_goes_on_as_a_torn_one(tmp_path: Path) -> None:
    run = made(tmp_path, "a")
    with JournalWriter(run.journal_path) as writer:
        writer.intervene("aa", 3, {"optim.lr": 0.1}, "cli")
        writer.checkpoint(4, "d" * 64)
    whole = run.journal_path.read_bytes()
    begin = whole[:-1].rfind(b"\n") + 1
    for position in range(begin, len(whole) - 1, 7):
        flipped = whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :]
        run.journal_path.write_bytes(flipped)
        assert len(run.journal().interventions) == 1
        with JournalWriter(run.journal_path) as writer:
            assert [entry.kind for entry in writer.journal.entries] == ["session", "intervention", "repair"]
            assert writer.journal.entries[-1].fields["torn"].encode() == flipped[begin:-1]
        assert run.journal_path.read_bytes().startswith(whole[:begin])
        with JournalWriter(run.journal_path) as writer:
            assert len(writer.journal.of_kind("repair")) == 1


def test_folders_that_no_step_is_called_are_no_checkpoints(tmp_path: Path) -> None:
    for name in ("00000020", "000000030", "9" * 40, "00000040x", "²0000000"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert checkpoint_files.list_steps(tmp_path) == [20]


def test_a_checkpoint_far_beyond_the_steps_is_not_counted_up_to() -> None:
    seconds = dict.fromkeys(range(100), 1.0)
    far = retention.bound([20, 10**15], seconds)
    assert (far.steps, far.seconds) == (10**15 - 21, 80.0)
