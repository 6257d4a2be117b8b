"""A run in one file: small, the same bytes each time, signed, repeated step by step, kept again."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

import safelight as sl
from command_line import run
from data.files import save, unlike
from safelight.config import UserError
from safelight.engine.distributed import World
from safelight.recipe import load
from safelight.sharing import pack
from safelight.sharing.archive import Archive
from safelight.sharing.opened import keep, opened, replay_step
from safelight.store import checkpoint_files, metrics
from safelight.store.directory import RunDirectory
from safelight.training.fork import fork
from safelight.training.progress import Show
from safelight.training.start import begin, resume
from tiny import TINY


def quiet(line: str) -> None:
    """Print nothing."""


@pytest.fixture(scope="module")
def shared(finished, tmp_path_factory) -> Path:
    """The finished run as one file."""
    path = tmp_path_factory.mktemp("shared") / "run.slr"
    pack.share(finished, path)
    return path


@pytest.fixture(scope="module")
def forked(finished, tmp_path_factory) -> RunDirectory:
    """A copy of the finished run, forked at step 13 and trained to 20, beside it."""
    runs = tmp_path_factory.mktemp("forked")
    shutil.copytree(finished.path, runs / "whole")
    made = fork(RunDirectory(runs / "whole"), 13, {"optim.lr": 5e-4, "train.steps": 20}, runs, "branch")
    return resume(made, World(), Show())


def test_a_run_is_small_and_makes_the_same_bytes_each_time(finished, shared, tmp_path):
    assert shared.stat().st_size < 100_000
    pack.share(finished, tmp_path / "again.slr")
    assert (tmp_path / "again.slr").read_bytes() == shared.read_bytes()
    with Archive.open(shared) as archive:
        names = {name.removeprefix("whole/") for name in archive.manifest.members}
        assert {"recipe.toml", "run.json", "journal.jsonl", "metrics-0001.jsonl"} < names
        assert any(name.startswith("sheets/") for name in names)
        assert not any(name.startswith("checkpoints/") for name in names)


def test_any_step_is_repeated_exactly_and_has_the_state_that_was_recorded(shared):
    for step, state in ((7, None), (10, True)):
        with opened(shared) as there:
            done = replay_step(there, step, {}, quiet)
        assert (done.verdict.verdict, done.verdict.checked, done.first) == ("exact", step, None)
        assert done.state is state


def test_the_first_step_that_differs_is_named(finished, tmp_path):
    shutil.copytree(finished.path, tmp_path / "other")
    path = tmp_path / "other" / "metrics-0001.jsonl"
    header, *rows = path.read_bytes().splitlines(keepends=True)
    parsed = [{**json.loads(row), "step": int(json.loads(row)["step"])} for row in rows]
    for row in parsed[5:]:
        row["fingerprint"] = f"{int(row['fingerprint'], 16) ^ 1:016x}"
        del row["check"]
    sealed = [metrics._sealed(row) if number >= 5 else rows[number] for number, row in enumerate(parsed)]
    path.write_bytes(header + b"".join(sealed))
    pack.share(RunDirectory(tmp_path / "other"), tmp_path / "other.slr")
    with opened(tmp_path / "other.slr") as there:
        done = replay_step(there, 9, {}, quiet)
    assert (done.verdict.verdict, done.first, done.verdict.checked) == ("diverged", 5, 5)
    assert "the first that differs: step 5" in done.describe()


def test_a_fork_brings_the_run_it_came_from_and_is_repeated_through_it(forked, tmp_path):
    pack.share(forked, tmp_path / "branch.slr")
    with opened(tmp_path / "branch.slr") as there:
        assert there.archive.runs == ["branch", "whole"]
        done = replay_step(there, 20, {}, quiet)
    assert (done.run, done.verdict.verdict, done.verdict.checked, done.state) == ("branch", "exact", 7, True)
    with opened(tmp_path / "branch.slr") as there:
        assert replay_step(there, 5, {}, quiet).run == "whole"


def test_rows_are_thinned_until_they_fit_and_the_rest_still_proves_each_step(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "METRICS", 1500)
    made = pack.share(finished, tmp_path / "thin.slr")
    assert made.every > 1
    with opened(tmp_path / "thin.slr") as there:
        kept = [int(line["step"]) + 1 for line in metrics.merged(there.directory.path)]
        assert set(kept) == {step for step in range(1, 31) if not step % made.every or step in (10, 20, 30)}
        last = next(step for step in kept if step > 5)
        done = replay_step(there, last, {}, quiet)
    assert (done.verdict.verdict, done.verdict.checked) == ("exact", last)


def test_with_weights_it_is_kept_as_a_run_that_samples_the_same(finished, tmp_path):
    pack.share(finished, tmp_path / "whole.slr", ["weights"])
    with opened(tmp_path / "whole.slr") as there:
        made = keep(there, tmp_path / "runs", "theirs")
        with pytest.raises(UserError, match="is the run theirs"):
            keep(there, tmp_path / "runs", "twice")
    assert checkpoint_files.list_steps(made.path) == [30]
    ours, theirs = sl.Run(finished), sl.open_run("theirs", runs=tmp_path / "runs")
    assert theirs.digest == ours.digest
    assert (theirs.sample(2, label=3).images == ours.sample(2, label=3).images).all()
    assert not [path for path in (tmp_path / "runs").iterdir() if path.name != "theirs"]


def test_with_data_it_is_repeated_where_the_data_never_were(tmp_path):
    folder = tmp_path / "photos"
    for number in range(16):
        save(folder / f"{number}.png", unlike(number))
    data = {"data.source": "folder", "data.path": str(folder), "data.size": 28, "data.channels": 1,
            "data.held_out": 0.25, "train.steps": 4, "train.ema_lengths": [], "watch.every": 4,
            "network.classes": False}  # fmt: skip
    trained = begin(load("digits-class", {**TINY, **data}), tmp_path / "runs", "seen", World(), Show())
    pack.share(trained, tmp_path / "data.slr", ["data"])
    pack.share(trained, tmp_path / "none.slr")
    shutil.move(folder, tmp_path / "elsewhere")
    with opened(tmp_path / "data.slr") as there:
        assert replay_step(there, 3, {}, quiet).verdict.verdict == "exact"
    with opened(tmp_path / "none.slr") as there:
        done = replay_step(there, 3, {"data.path": str(tmp_path / "elsewhere")}, quiet)
        assert done.verdict.verdict == "exact"
    with opened(tmp_path / "data.slr") as there:
        made = keep(there, tmp_path / "kept", "seen")
    assert sl.replay("seen", 2, runs=tmp_path / "kept").verdict == "exact"
    assert (tmp_path / "kept" / "seen-data" / "photos").is_dir()
    assert made.is_locked() is False


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> Path:
    """Two ssh keys, alice and mallory."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("alice", "mallory"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    return folder


def test_a_signature_says_whose_it_is_and_nobody_else_passes(finished, shared, keys, tmp_path):
    pack.share(finished, tmp_path / "run.slr", key=keys / "alice")
    with opened(tmp_path / "run.slr") as there:
        assert "SHA256:" in there.signature.key
        assert not there.signature.known
    with opened(tmp_path / "run.slr", keys / "alice.pub") as there:
        assert there.signature.known
    with pytest.raises(UserError, match=r"is signed by ED25519 key SHA256:.*, not by .*mallory\.pub"):
        opened(tmp_path / "run.slr", keys / "mallory.pub").__enter__()
    with opened(shared) as there:
        assert there.signature.describe() == "not signed: anyone may have made or changed it"
    with pytest.raises(UserError, match="is not signed"):
        opened(shared, keys / "alice.pub").__enter__()


def test_a_signature_of_something_else_is_refused(finished, keys, tmp_path):
    from safelight.sharing import signature

    for text, pattern in ((b"another manifest", "does not fit"), (None, "does not fit")):
        made = signature.sign(text, keys / "alice") if text else b"no signature"
        pack.share(finished, tmp_path / "plain.slr")
        with zipfile.ZipFile(tmp_path / "plain.slr", "a") as archive:
            archive.writestr("manifest.json.sig", made)
        with pytest.raises(UserError, match=pattern):
            opened(tmp_path / "plain.slr").__enter__()


def test_the_command_line_shares_shows_and_repeats(finished, monkeypatch, capsys, tmp_path):
    path = str(tmp_path / "run.slr")
    code, out, _ = run(monkeypatch, capsys, "share", str(finished.path), "--out", path, "--json")
    assert (code, json.loads(out)["run"]) == (0, "whole")
    code, out, _ = run(monkeypatch, capsys, "open", path, "--replay", "4")
    assert code == 0
    assert "signed:  not signed" in out
    assert out.endswith("exact: step 4 of whole; 4 of 4 steps recomputed from 0 and equal\n")
    code, out, _ = run(monkeypatch, capsys, "open", path, "--json")
    assert json.loads(out)["run"]["step"] == 30
    for words, message in (
        (["--out", "run.zip"], "--out run.zip: name a file that ends in .slr"),
        (["--out", path, "--with", "soul"], "--with soul: is not a valid choice; use weights, tape, data"),
        (["--out", path, "--with", "tape"], "whole: has no tape; leave out --with tape"),
        (["--out", path, "--sign", "none"], "none: it or its directory is gone"),
    ):
        code, _, err = run(monkeypatch, capsys, "share", str(finished.path), *words)
        assert code == 2
        assert err.startswith(f"safelight: {message}")
