"""The write protocol: its order, what a crash leaves at each stage, what a person is told."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

from safelight import files
from safelight.config import UserError
from safelight.files import BLOCK, last_lines
from safelight.store import durable, sealed
from safelight.store.durable import remove_tree, sweep, write_bytes, write_json


class Crash(BaseException):
    """Ends a writer where it stands, as a killed process would be: nothing catches it."""


def stages(path: Path) -> list[str]:
    heard: list[str] = []
    write_bytes(path, b"any", heard.append)
    return heard


def test_a_file_is_synced_before_it_is_renamed_and_its_directory_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(descriptor: int) -> None:
        calls.append("sync directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file")
        fsync(descriptor)

    def recorded_replace(source: Path, target: Path) -> None:
        assert source.parent == target.parent
        calls.append("rename")
        replace(source, target)

    monkeypatch.setattr(durable.os, "fsync", recorded_fsync)
    monkeypatch.setattr(durable.os, "replace", recorded_replace)
    write_bytes(tmp_path / "a", b"any", lambda stage: calls.append(stage.removeprefix("file.") + ":"))
    assert calls == [
        "write:", "fsync:", "sync file", "verify:",
        "rename:", "rename", "directory:", "sync directory", "done:",
    ]  # fmt: skip


def test_a_crash_at_any_stage_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "a"
    order = stages(path)
    for number, last in enumerate(order):
        path.write_bytes(b"old")

        def crash(stage: str, last: str = last) -> None:
            if stage == last:
                raise Crash

        with pytest.raises(Crash):
            write_bytes(path, b"new", crash)
        assert path.read_bytes() == (b"new" if number > order.index("file.rename") else b"old")
        sweep(tmp_path, locked=True)
        assert [left.name for left in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EDQUOT, "quota is used up; free some space"),
        (errno.EROFS, "read-only; choose another place with --runs"),
        (errno.EACCES, "permission denied; change its owner or mode"),
        (errno.ESTALE, "check the disk"),
    ],
)
def test_the_system_s_errors_become_one_line_with_a_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(durable.os, "fsync", fail)
    with pytest.raises(UserError) as caught:
        write_bytes(path, b"new")
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"old"
    assert [left.name for left in tmp_path.iterdir()] == ["a"]  # the space is given back


def test_a_deleted_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gone/a: it or its directory is gone; put back"):
        write_bytes(tmp_path / "gone" / "a", b"any")


def test_a_garbled_write_is_found_before_it_replaces_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def garble(stage: str) -> None:
        if stage == "file.verify":
            (written,) = tmp_path.glob(".tmp-*")
            written.write_bytes(b"nes")

    with pytest.raises(UserError, match="failed to read or write"):
        write_bytes(path, b"new", garble)
    assert path.read_bytes() == b"old"


def test_disks_that_cannot_sync_a_directory_are_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def fail_on_directories(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "no")
        fsync(descriptor)

    monkeypatch.setattr(durable.os, "fsync", fail_on_directories)
    write_json(tmp_path / "a.json", {"x": [1, 2.5]})
    assert (tmp_path / "a.json").read_text() == '{\n  "x": [\n    1,\n    2.5\n  ]\n}\n'


def test_json_refuses_what_json_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a", float("nan"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("last", ["remove.rename", "remove.delete"])
def test_a_tree_half_deleted_does_not_keep_its_name(tmp_path: Path, last: str) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "leaf").write_text("x")

    def crash(stage: str) -> None:
        if stage == last:
            raise Crash

    with pytest.raises(Crash):
        remove_tree(tree, crash)
    assert tree.exists() == (last == "remove.rename")
    sweep(tmp_path, locked=True)
    assert tree.exists() == (last == "remove.rename")
    assert not list(tmp_path.glob(".tmp-*"))


def test_only_what_nobody_will_finish_is_swept(tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from safelight.store import durable; "
    script += "durable.temporary_beside(Path(sys.argv[1])).touch()"
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "dead")], check=True)
    durable.temporary_beside(tmp_path / "mine").mkdir()
    for name, age in (("elsewhere-01234567-1-89abcdef", 3600), ("older", 2 * durable.DAY)):
        path = tmp_path / f".tmp-{name}"
        path.touch()
        os.utime(path, (time.time() - age,) * 2)
    assert len(list(tmp_path.iterdir())) == 4
    sweep(tmp_path, name="dea")  # of a user's folder
    assert len(list(tmp_path.iterdir())) == 4
    for name in ("mine", "older"):
        sweep(tmp_path, name=name)
    assert len(list(tmp_path.iterdir())) == 4
    sweep(tmp_path, name="dead")
    assert len(list(tmp_path.iterdir())) == 3
    sweep(tmp_path)
    assert sorted(left.name.split("-")[1] for left in tmp_path.iterdir()) == ["elsewhere", "mine"]
    sweep(tmp_path, locked=True)
    assert [left.name.split("-")[1] for left in tmp_path.iterdir()] == ["elsewhere"]
    sweep(tmp_path, alone=True)
    assert not list(tmp_path.iterdir())


def test_sealed_fields_come_back_and_any_flipped_bit_shows() -> None:
    fields = {"words": "Zürich \u2028 \\ \n", "list": [1, 2.5e-308, None, True], "nested": {"10": 1, "9": {}}}
    text = sealed.line(fields)
    assert sealed.unseal(text) == fields
    assert sealed.unseal(sealed.pretty(fields)) == fields
    for position in range(len(text) - 1):
        for bit in range(8):
            flipped = bytearray(text)
            flipped[position] ^= 1 << bit
            assert sealed.unseal(bytes(flipped)) in (None, fields)


def test_sealed_fields_with_integer_keys_and_tuples_are_sealed_as_they_are_read() -> None:
    assert sealed.unseal(sealed.line({"a": {10: (1, 2), 9: ()}})) == {"a": {"10": [1, 2], "9": []}}


@pytest.mark.parametrize("text", [b"", b"null", b"[1]", b"{}", b'{"check":"00"}', b"\xff\xfe", b"1" * 5000])
def test_what_was_never_sealed_is_damaged(text: bytes) -> None:
    assert sealed.unseal(text) is None


@pytest.mark.parametrize("length", [1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_last_lines_reverses_a_file_whatever_its_line_lengths(tmp_path: Path, length: int) -> None:
    lines = [bytes([65 + number]) * max(length - number, 1) for number in range(5)]
    path = tmp_path / "lines"
    path.write_bytes(b"\n".join(lines) + b"\n")
    assert list(last_lines(path)) == lines[::-1]
    path.write_bytes(b"\n".join(lines))
    assert list(last_lines(path)) == lines[::-1]


def test_a_hole_behind_the_lines_of_a_file_is_not_read(tmp_path: Path) -> None:
    """64 GB that no disk holds: the lines before them are all there is, at once, from either end."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"first\nsecond\n")
    os.truncate(path, 1 << 36)
    forwards, backwards = list(files.lines(path)), list(last_lines(path))
    assert forwards[:2] == [b"first", b"second"]
    assert backwards[-2:] == [b"second", b"first"]
    assert len(forwards) <= 3
    assert len(backwards) <= 3


def test_a_small_file_takes_little_memory_however_much_it_may_have(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_bytes(b"small")
    tracemalloc.start()
    try:
        assert files.read(path, 1 << 40) == b"small"
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    with pytest.raises(files.Refused, match="larger than the 4 bytes"):
        files.read(path, 4)
