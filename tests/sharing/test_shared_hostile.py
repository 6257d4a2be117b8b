"""Files of strangers: whatever is in them, one line says so, nothing is written outside, nothing is run."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import stat
import struct
import zipfile
from pathlib import Path

import pytest
import tomli_w

from command_line import run
from safelight.config import UserError
from safelight.sharing import archive, pack
from safelight.sharing.opened import keep, opened, replay_step
from safelight.store import sealed
from safelight.store.directory import RunDirectory


@pytest.fixture(scope="module")
def members(finished, tmp_path_factory) -> dict[str, bytes]:
    """The members of a good file by name, without its manifest."""
    path = tmp_path_factory.mktemp("good") / "run.slr"
    pack.share(finished, path)
    with zipfile.ZipFile(path) as there:
        return {name: there.read(name) for name in there.namelist() if name != archive.MANIFEST}


def manifest(files: dict[str, bytes], **changes: object) -> bytes:
    """A manifest of members, as one who forges it would write it."""
    listed = {name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
              for name, content in files.items()}  # fmt: skip
    fields = {"run": "whole", "holds": [], "every": 1, "safelight": "0", "format": "1.0", "members": listed}
    return sealed.pretty({**fields, **changes})


def forged(path: Path, members: dict[str, bytes], text: bytes | None = None, mode: int = 0) -> Path:
    """An archive of members and their manifest. mode: of the last member."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as there:
        there.writestr(archive.MANIFEST, manifest(members) if text is None else text)
        for number, (name, content) in enumerate(members.items()):
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (mode if number == len(members) - 1 else 0) << 16
            there.writestr(info, content)
    return path


def refusal(path: Path) -> str:
    """What is said of a file that is refused."""
    with pytest.raises(UserError) as error, opened(path):
        pass
    assert "\n" not in str(error.value)
    return str(error.value)


NAMES = (
    "../evil.png", "/tmp/evil.png", "whole/../../evil.png", "whole/data/../../../evil.png", "C:/evil.png",
    "whole/data/..\\evil.png", "whole\\data\\evil.png", "whole/data/a//b.png", "whole/data/./a.png",
    "whole/data/\x1b[8m.png", "whole/data/.ssh/config", "whole/data/a:b.png", "whole/data/a.", "whole/data/",
    "whole/" + "data/" * 14 + "a.png", "whole/data/" + "a" * 300, ".hidden/run.json", "whole/model.pkl",
    "whole/checkpoints/00000010/networks.pt", "whole/inbox/edit.json", "whole/lock", "whole/report.html",
    "whole/sheets/a.svg", "evil.py", "whole/sitecustomize.py", "-rf/run.json", "whole/films/a.mp4",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_no_run_has_is_refused(name, members, tmp_path):
    path = forged(tmp_path / "run.slr", members | {name: b"x"})
    assert "which no shared run has" in refusal(path)
    assert os.listdir(tmp_path) == ["run.slr"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFDIR])
def test_links_pipes_and_devices_are_refused(kind, members, tmp_path):
    path = forged(tmp_path / "run.slr", members | {"whole/data/a.png": b"/etc/passwd"}, mode=kind | 0o777)
    assert "whole/data/a.png is a" in refusal(path)


@pytest.mark.parametrize(
    "pair", [("a.png", "a.png"), ("a.png", "A.png"), ("é.png", "e\u0301.png"), ("a", "a/b")]
)
def test_names_that_meet_are_refused(pair, members, tmp_path):
    one, other = (f"whole/data/{name}" for name in pair)
    path = forged(tmp_path / "run.slr", members | {one: b"x"} | {other: b"y"})
    if one == other:
        with zipfile.ZipFile(path, "a") as there, pytest.warns(UserWarning, match="Duplicate"):
            there.writestr(one, b"z")
    assert ("twice" in refusal(path)) is ("/b" not in other)


def test_a_bomb_is_refused_before_it_is_unpacked(members, tmp_path, monkeypatch):
    path = forged(tmp_path / "run.slr", members | {"whole/data/a.png": bytes(64 << 20)})
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("was unpacked"))
    assert "would unpack to 67,1" in refusal(path)


def test_a_directory_without_end_is_refused_before_it_is_read(members, tmp_path, monkeypatch):
    path = forged(tmp_path / "run.slr", members)
    monkeypatch.setattr(archive, "DIRECTORY", 100)
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("was read"))
    assert "lists its members in" in refusal(path)


def test_a_manifest_without_end_is_refused(members, tmp_path):
    text = manifest(members, holds=["x" * (17 << 20)])
    path = forged(tmp_path / "run.slr", members, text)
    assert "manifest.json is larger than" in refusal(path) or "would unpack to" in refusal(path)


@pytest.mark.parametrize("size", [0, 1, 10**6, 2**31])
def test_a_size_that_lies_is_refused(size, members, tmp_path):
    """In the zip's directory: the manifest has the true one."""
    path = forged(tmp_path / "run.slr", members)
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\1\2")
    content[entry + 24 : entry + 28] = struct.pack("<L", size)
    path.write_bytes(content)
    assert refusal(path)


def lies(members: dict[str, bytes]) -> dict[str, bytes]:
    """Manifests that are not of the members, by what is wrong."""
    listed = json.loads(manifest(members))["members"]
    name = "whole/recipe.toml"
    fewer = {key: value for key, value in listed.items() if key != name}
    return {
        "is not as manifest.json lists it": manifest(members, members=fewer),
        "recipe.toml: is not as": manifest(members, members=listed | {name: {**listed[name], "bytes": 5}}),
        "recipe.toml is not what": manifest(
            members, members=listed | {name: {**listed[name], "sha256": "0" * 64}}
        ),
        "its checksum does not fit": manifest(members).replace(b"whole", b"other"),
        "lacks other/": manifest(members, run="other"),
        "lacks ../": manifest(members, run="../.."),
        "install a newer one": manifest(members, format="2.0"),
        "(members: ": manifest(members, members=[]),
        "(every: ": manifest(members, every=-1),
        "manifest.json is damaged": b"[" * 100_000,
    }


@pytest.mark.parametrize("number", range(10))
def test_a_manifest_that_lies_is_refused(number, members, tmp_path):
    words, text = list(lies(members).items())[number]
    assert words in refusal(forged(tmp_path / "run.slr", members, text))


def test_what_is_no_archive_is_refused(members, tmp_path):
    path = tmp_path / "run.slr"
    path.write_bytes(b"")
    assert "is not a whole zip archive" in refusal(path)
    forged(path, members)
    whole = path.read_bytes()
    for length in (10, len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:length])
        assert "zip archive" in refusal(path)
    for place in range(40, len(whole), len(whole) // 60):  # a flipped bit is harmless or one line
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            with opened(path):
                pass
        except UserError as error:
            assert "\n" not in str(error)
    with zipfile.ZipFile(path, "w") as there:
        there.writestr("other.txt", b"")
    assert "holds 'other.txt'" in refusal(path)
    path.unlink()
    os.mkfifo(path)
    assert "is a pipe, not a file" in refusal(path)


class Bomb:
    """A pickle that leaves a trace."""

    def __reduce__(self):
        return (os.mkdir, ("pwned",))


@pytest.mark.parametrize("name", ["run.json", "journal.jsonl", "metrics-0001.jsonl", "recipe.toml"])
def test_a_pickle_under_another_name_is_not_unpickled(name, members, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = forged(tmp_path / "run.slr", members | {f"whole/{name}": pickle.dumps(Bomb())})
    try:
        with opened(path) as there:
            replay_step(there, 3, {}, lambda line: None)
    except UserError as error:
        assert "\n" not in str(error)
    assert not (tmp_path / "pwned").exists()


def with_recipe(
    members: dict[str, bytes], change: dict[str, object], edit: dict[str, object]
) -> dict[str, bytes]:
    """The members with a recipe changed, its hash too, and an edit in the journal."""
    import tomllib

    from safelight.config import override

    text = tomli_w.dumps(override(tomllib.loads(members["whole/recipe.toml"].decode()), change)).encode()
    info = json.loads(members["whole/run.json"])
    del info["check"]
    journal = members["whole/journal.jsonl"]
    if edit:
        entry = {"time": "2026", "kind": "intervention", "session": 1, "edits": 1, "id": "e", "step": 2,
                 "origin": "cli", "changes": edit}  # fmt: skip
        journal += sealed.line(entry)
    return members | {
        "whole/recipe.toml": text, "whole/journal.jsonl": journal,
        "whole/run.json": sealed.pretty({**info, "recipe_sha256": hashlib.sha256(text).hexdigest()}),
    }  # fmt: skip


@pytest.mark.parametrize("where", ["method.name", "network.name", "edit", "other run"])
def test_code_that_a_recipe_names_is_said_and_not_run(where, members, tmp_path, monkeypatch, capsys):
    code = tmp_path / "evil.py"
    code.write_text(f"import pathlib; pathlib.Path({str(tmp_path / 'pwned')!r}).touch()")
    change = {} if where == "edit" else {"network.name" if "net" in where else "method.name": str(code)}
    made = with_recipe(members, change, {"method.name": str(code)} if where == "edit" else {})
    if where == "other run":
        made = members | {name.replace("whole/", "also/"): content for name, content in made.items()}
    path = forged(tmp_path / "run.slr", made)
    exit_code, out, err = run(monkeypatch, capsys, "open", str(path))
    assert (exit_code, err) == (0, "")
    assert f"{code} is from outside safelight, not in the file, and was not run" in out
    for words in (["--replay", "3"], ["--name", "kept", "--runs", str(tmp_path / "runs")]):
        exit_code, _, err = run(monkeypatch, capsys, "open", str(path), *words)
        assert exit_code == 2
        assert "is code from outside safelight" in err
    assert not (tmp_path / "pwned").exists()
    assert not (tmp_path / "runs").exists()
    with opened(path, trust=True) as there:
        try:
            replay_step(there, 3, {}, lambda line: None)
        except UserError as error:  # the file is no method
            assert "evil.py" in str(error)
    assert (tmp_path / "pwned").exists() is (where != "other run")


def test_what_looks_for_code_later_is_refused_too(tmp_path):
    """Even where a name was not seen: the door itself is closed."""
    from safelight import discovery
    from safelight.recipe import load

    (tmp_path / "mine.py").write_text("raise SystemExit")
    with discovery.nothing_outside("run.slr"), pytest.raises(UserError, match=r"is not run for run\.slr"):
        load("digits-class", {"method.name": str(tmp_path / "mine.py")})


def test_keeping_leaves_nothing_half_written(members, tmp_path, monkeypatch):
    path, runs = forged(tmp_path / "run.slr", members), tmp_path / "runs"
    with opened(path) as there:
        for name in ("../up", ".hidden", "a/b", ""):
            with pytest.raises(UserError, match="cannot name a run"):
                keep(there, runs, name) if name else keep(there, runs, " ")
        assert not runs.exists()
        (runs / "taken").mkdir(parents=True)
        with pytest.raises(UserError, match="exists already"):
            keep(there, runs, "taken")
        monkeypatch.setattr(
            "safelight.sharing.opened.publish", lambda *_: (_ for _ in ()).throw(OSError(28, "full"))
        )
        with pytest.raises(UserError, match="full"):
            keep(there, runs, "fine")
    assert [path.name for path in runs.iterdir()] == ["taken"]


def test_a_run_that_came_from_itself_ends(members, tmp_path):
    info = json.loads(members["whole/run.json"])
    del info["check"]
    info["parent"] = {"run": info["id"], "step": 5, "digest": "0"}
    path = forged(tmp_path / "run.slr", members | {"whole/run.json": sealed.pretty(info)})
    with opened(path) as there, pytest.raises(UserError):
        replay_step(there, 8, {}, lambda line: None)


def test_weights_of_another_run_are_not_taken_for_its_own(finished, tmp_path):
    """A bit of a checkpoint flipped, its manifests and hashes made to fit: the journal knows better."""
    shutil.copytree(finished.path, tmp_path / "whole")
    folder = tmp_path / "whole" / "checkpoints" / "00000030"
    target = folder / "networks.safetensors"
    content = bytearray(target.read_bytes())
    content[-1] ^= 1
    target.write_bytes(content)
    fields = json.loads((folder / "manifest.json").read_text())
    del fields["check"]
    fields["files"][target.name]["sha256"] = hashlib.sha256(content).hexdigest()
    from safelight.store import checkpoint_files

    files = [
        checkpoint_files.File(name, entry["sha256"], entry["bytes"])
        for name, entry in fields["files"].items()
    ]
    fields["digest"] = checkpoint_files.digest(files)
    (folder / "manifest.json").write_bytes(sealed.pretty(fields))
    pack.share(RunDirectory(tmp_path / "whole"), tmp_path / "mine.slr", ["weights"])
    with opened(tmp_path / "mine.slr") as there:
        made = keep(there, tmp_path / "runs", None)
    assert checkpoint_files.newest_good(made.path, made.digests()).step == 20
