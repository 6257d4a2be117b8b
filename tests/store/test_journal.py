"""The journal loses no intervention: torn lines, flipped bits, full disks; edits are settled exactly once."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.config import UserError
from safelight.store import inbox, journal, sealed
from safelight.store.journal import Intervention, parse, read
from safelight.store.journal_writer import JournalWriter


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "journal.jsonl"
    path.touch()
    return path


def write_history(path: Path) -> None:
    with JournalWriter(path) as writer:
        writer.start_session(0, 1000, {"pid": 1, "environment": {"threads": 2}})
        writer.intervene("aa", 300, {"optim.lr": 1e-4}, "cli")
        writer.checkpoint(500, "d" * 64)
        writer.intervene("bb", 100, {"optim.lr": 1e-5, "loss.mse": 2}, "web")
        writer.append("note", {"text": "looks good"})
        writer.end("stopped", 700, 1000, "Ctrl-C")


def test_entries_come_back_in_order_with_their_session(path: Path) -> None:
    write_history(path)
    with JournalWriter(path) as writer:
        assert writer.start_session(500, 1000, {"pid": 2}) == 2
        written = writer.journal
    again = read(path)
    assert again == written
    assert [(entry.kind, entry.session) for entry in again.entries] == [
        ("session", 1), ("intervention", 1), ("checkpoint", 1), ("intervention", 1), ("note", 1), ("end", 1),
        ("session", 2),
    ]  # fmt: skip
    assert again.edits == 2
    assert again.interventions == [
        Intervention("aa", 300, {"optim.lr": 1e-4}, "cli"),
        Intervention("bb", 100, {"optim.lr": 1e-5, "loss.mse": 2}, "web"),
    ]
    assert again.entries[0].fields == {
        "step": 0, "steps": 1000, "format": sealed.FORMAT, "pid": 1, "environment": {"threads": 2},
    }  # fmt: skip


def test_changes_take_effect_at_their_step_whatever_the_order_of_writing(path: Path) -> None:
    write_history(path)
    history = read(path)
    assert history.changes_at(99) == {}
    assert history.changes_at(100) == {"optim.lr": 1e-5, "loss.mse": 2}
    assert history.changes_at(300) == {"optim.lr": 1e-4, "loss.mse": 2}


@given(st.lists(st.tuples(st.integers(0, 9), st.dictionaries(st.sampled_from("abc"), st.integers(0, 9)))))
def test_changes_at_equals_replaying_every_step(edits: list[tuple[int, dict[str, int]]]) -> None:
    def entry(number: int, step: int, changes: dict[str, int]) -> journal.JournalEntry:
        fields = {"id": "", "step": step, "changes": changes, "origin": ""}
        return journal.JournalEntry("intervention", "", 1, number, fields)

    entries = [entry(number, *edit) for number, edit in enumerate(edits, start=1)]
    history = journal.Journal(Path(), entries)
    in_force: dict[str, int] = {}
    for step in range(10):
        for at, changes in edits:
            if at == step:
                in_force.update(changes)
        assert history.changes_at(step) == in_force


def test_an_entry_is_synced_when_append_returns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bytes] = []
    fsync = os.fsync

    def recorded(descriptor: int) -> None:
        fsync(descriptor)
        synced.append(path.read_bytes())

    with JournalWriter(path) as writer:
        monkeypatch.setattr(os, "fsync", recorded)
        writer.intervene("aa", 3, {"x": 1}, "cli")
    assert synced == [path.read_bytes()]
    assert read(path).changes_at(3) == {"x": 1}


def test_a_last_line_torn_at_any_length_is_repaired_once_and_its_fragment_kept(path: Path) -> None:
    write_history(path)
    whole = path.read_bytes()
    before = read(path).entries
    torn = sealed.line({"time": "", "kind": "intervention", "session": 1, "edits": 3,
                        "id": "cc", "step": 800, "changes": {"optim.lr": 1.0}, "origin": "cli"})  # fmt: skip
    for length in range(1, len(torn) - 1):
        path.write_bytes(whole + torn[:length])
        assert read(path).entries == before
        with JournalWriter(path) as writer:
            assert writer.journal.interventions == read(path).interventions
            assert len(writer.journal.interventions) == 2
            writer.append("note", {"text": "after"})
        with JournalWriter(path) as writer:  # opening again repairs nothing more
            kinds = [entry.kind for entry in writer.journal.entries[len(before) :]]
            assert kinds == ["repair", "note"]
            assert writer.journal.entries[len(before)].fields == {"torn": torn[:length].decode()}
        assert path.read_bytes().startswith(whole)


@pytest.mark.parametrize("behind", [b"", b"\0\0\0", b"\x0b", b"*"])
def test_a_last_line_that_lacks_only_its_newline_counts(path: Path, behind: bytes) -> None:
    write_history(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + behind)
    assert len(read(path).entries) == 6
    with JournalWriter(path) as writer:
        assert [entry.kind for entry in writer.journal.of_kind("repair")] == []
    assert path.read_bytes() == whole


def test_no_flipped_bit_loses_an_intervention_silently(path: Path) -> None:
    write_history(path)
    whole = path.read_bytes()
    expected = read(path).interventions
    refused = accepted = 0
    for position in range(len(whole)):
        for mask in (0x01, 0x20, 0x80, whole[position] ^ 0x0A):  # the last turns the byte into a newline
            flipped = whole[:position] + bytes([whole[position] ^ mask]) + whole[position + 1 :]
            history = parse(path, flipped)
            try:
                interventions = history.interventions
            except UserError:
                refused += 1
            else:
                assert interventions == expected
                accepted += 1
    lengths = [len(line) + 1 for line in whole.split(b"\n")[:-1]]
    assert refused > 2 * (lengths[1] + lengths[3])  # the interventions
    assert accepted > 2 * (lengths[0] + lengths[2] + lengths[4])  # and what is provably something else


def damage_line(path: Path, number: int) -> None:
    lines = path.read_bytes().split(b"\n")
    lines[number - 1] = lines[number - 1].replace(b'"time":"2', b'"time":"3')
    path.write_bytes(b"\n".join(lines))


def test_a_damaged_line_that_was_no_intervention_is_named_once(path: Path) -> None:
    write_history(path)
    damage_line(path, 3)
    for _ in range(2):
        with JournalWriter(path) as writer:
            repairs = writer.journal.of_kind("repair")
            assert [entry.fields for entry in repairs] == [{"damaged": [3]}]
            assert len(writer.journal.interventions) == 2


@pytest.mark.parametrize("number", [2, 4])
def test_a_damaged_line_that_may_have_been_an_intervention_refuses_the_writer(
    path: Path, number: int
) -> None:
    write_history(path)
    damage_line(path, number)
    before = path.read_bytes()
    with pytest.raises(
        UserError, match=f"line {number} is damaged and may have held an intervention; restore"
    ):
        JournalWriter(path)
    assert path.read_bytes() == before
    history = read(path)  # watching goes on
    assert len(history.entries) == 5
    with pytest.raises(UserError, match="may have held"):
        history.changes_at(1000)


def test_deleting_the_damaged_line_is_consent(path: Path) -> None:
    write_history(path)
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join(lines[:1] + lines[2:]))
    with JournalWriter(path) as writer:
        assert [intervention.id for intervention in writer.journal.interventions] == ["bb"]
        writer.intervene("cc", 900, {}, "cli")
        assert writer.journal.edits == 3


@pytest.mark.parametrize("stage", ["write", "fsync"])
def test_a_full_disk_leaves_no_half_line(path: Path, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    write_history(path)
    whole = path.read_bytes()
    write = os.write

    def full_after_ten_bytes(descriptor: int, data: bytes) -> int:
        if path.stat().st_size > len(whole):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[:10])

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with JournalWriter(path) as writer:
        with monkeypatch.context() as patch:
            if stage == "write":
                patch.setattr(os, "write", full_after_ten_bytes)
            else:
                patch.setattr(os, "fsync", full)
            with pytest.raises(UserError, match=r"journal\.jsonl: the disk is full; free some space"):
                writer.intervene("cc", 900, {"x": 1}, "cli")
        assert path.read_bytes() == whole
        assert len(writer.journal.interventions) == 2
        writer.intervene("cc", 900, {"x": 1}, "cli")
    assert read(path).changes_at(900)["x"] == 1


def test_what_json_cannot_say_is_not_half_written(path: Path) -> None:
    with JournalWriter(path) as writer:
        with pytest.raises(ValueError, match="not JSON compliant"):
            writer.intervene("aa", 1, {"x": float("inf")}, "cli")
        with pytest.raises(ValueError, match="meaning of their own"):
            writer.append("note", {"session": 3})
    assert path.read_bytes() == b""


def test_a_missing_journal_is_named(tmp_path: Path) -> None:
    for use in (read, JournalWriter):
        with pytest.raises(UserError, match=r"journal\.jsonl: it or its directory is gone"):
            use(tmp_path / "journal.jsonl")


class Crash(BaseException):
    """Ends a writer where it stands."""


def test_edits_are_taken_in_the_order_they_were_dropped_even_if_the_clock_goes_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter([5_000, 1_000, 1_000, 3_000])
    monkeypatch.setattr(inbox.time, "time_ns", lambda: next(now))
    for number in range(4):
        inbox.drop(path.parent, {"x": number}, "cli")
    with JournalWriter(path) as writer:
        assert [edit.changes for edit in inbox.take(path.parent, writer)] == [
            {"x": number} for number in range(4)
        ]


def test_an_edit_is_settled_exactly_once_wherever_the_writer_crashes(path: Path) -> None:
    run = path.parent

    def settle_all(announce: inbox.Announce, step: int) -> None:
        with JournalWriter(path, announce) as writer:
            for edit in inbox.take(run, writer):
                inbox.settle(edit, step, writer, announce)

    heard: list[str] = []
    inbox.drop(run, {"x": 0}, "cli")
    settle_all(heard.append, 0)
    assert heard == ["journal.append", "journal.fsync", "journal.done", "inbox.delete"]
    for count, last in enumerate(heard, start=1):
        inbox.drop(run, {"x": count}, "cli")

        def crash(stage: str, last: str = last) -> None:
            if stage == last:
                raise Crash

        with pytest.raises(Crash):
            settle_all(crash, count)
        settle_all(inbox.silence, count)
        settle_all(inbox.silence, 99)
        assert [
            (intervention.step, intervention.changes["x"]) for intervention in read(path).interventions
        ] == [(number, number) for number in range(count + 1)]
        assert not list((run / "inbox").iterdir())


def test_a_crash_while_dropping_leaves_an_edit_or_none(path: Path) -> None:
    heard: list[str] = []
    inbox.drop(path.parent, {"x": 0}, "cli", heard.append)
    for count, last in enumerate(heard, start=1):

        def crash(stage: str, last: str = last) -> None:
            if stage == last:
                raise Crash

        with pytest.raises(Crash):
            inbox.drop(path.parent, {"x": count}, "cli", crash)
    with JournalWriter(path) as writer:
        taken = [edit.changes["x"] for edit in inbox.take(path.parent, writer)]
    assert taken == [0, *range(heard.index("inbox.rename") + 2, len(heard) + 1)]


def test_a_file_that_is_no_edit_is_put_aside_with_a_note(path: Path) -> None:
    edit = inbox.drop(path.parent, {"optim.lr": 1}, "cli")
    edit.path.write_bytes(edit.path.read_bytes().replace(b"optim", b"opt1m"))
    (path.parent / "inbox" / "mine.json").write_text('{"optim.lr": 3}')
    with JournalWriter(path) as writer:
        warned: list[str] = []
        assert inbox.take(path.parent, writer, warned.append) == []
        assert [line.split()[1] for line in warned] == [edit.path.name, "mine.json"]
        assert inbox.take(path.parent, writer, warned.append) == []
        assert len(warned) == 2
        notes = [entry.fields["text"] for entry in writer.journal.of_kind("note")]
    assert notes == [
        f"edit {name} refused: no edit, or a damaged one" for name in (edit.path.name, "mine.json")
    ]
    assert {left.suffix for left in (path.parent / "inbox").iterdir()} == {".bad"}


@pytest.mark.parametrize("value", [float("nan"), object()])
def test_a_value_that_cannot_be_written_is_refused_where_it_is_dropped(path: Path, value: object) -> None:
    with pytest.raises(UserError, match=r"^optim\.lr: cannot be set to that value"):
        inbox.drop(path.parent, {"optim.lr": value}, "cli")
    assert not list((path.parent / "inbox").iterdir())
