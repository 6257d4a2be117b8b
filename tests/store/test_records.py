"""Nothing false is called exact: whose checkpoint it is, what is damaged, what was recomputed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from command_line import run as command
from safelight.config import UserError
from safelight.engine.distributed import World
from safelight.engine.state import State
from safelight.loading.dependencies import of_run
from safelight.loading.model import MATCHES
from safelight.loading.replay import Replay, replay
from safelight.recipe import load
from safelight.report.run_report import write_report
from safelight.run import Run
from safelight.store import checkpoint, checkpoint_files, metrics
from safelight.store.directory import RunDirectory
from safelight.store.journal_writer import JournalWriter
from safelight.training.progress import Show
from safelight.training.start import begin, resume


@pytest.fixture
def run(finished, tmp_path) -> RunDirectory:
    """A copy of the finished run, with checkpoints of the steps 10, 20 and 30."""
    return RunDirectory(Path(shutil.copytree(finished.path, tmp_path / "runs" / "mine")))


@pytest.fixture(scope="module")
def other(_cache, tmp_path_factory) -> RunDirectory:
    """A run of the same recipe with another seed."""
    from tiny import TINY

    folder = tmp_path_factory.mktemp("other")
    return begin(
        load("digits-class", {**TINY, "train.seed": 1, "train.steps": 10}), folder, "b", World(), Show()
    )


def newest(run: RunDirectory) -> Path:
    return checkpoint_files.directory(run.path, checkpoint_files.list_steps(run.path)[-1])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def put(run: RunDirectory, other: RunDirectory) -> None:
    """Another run's checkpoint of step 10 in the place of one's own, and none after it."""
    for step in checkpoint_files.list_steps(run.path):
        shutil.rmtree(checkpoint_files.directory(run.path, step))
    shutil.copytree(checkpoint_files.directory(other.path, 10), checkpoint_files.directory(run.path, 10))


def test_another_run_s_checkpoint_is_refused_by_who_reads_and_put_aside_by_who_writes(run, other):
    digest = checkpoint_files.digest_of(newest(run))
    put(run, other)
    for use in (lambda: replay(run, 10), lambda: replay(run, 12)):
        with pytest.raises(UserError, match="00000010: is another than the run saved"):
            use()
    lines: list[str] = []
    resume(run, World(), Show(warn=lines.append))
    assert any("is another than the run saved" in line for line in lines)
    assert checkpoint_files.digest_of(newest(run)) == digest
    assert (run.path / "checkpoints" / "00000010.bad").is_dir()
    (note, *_) = [entry.fields["text"] for entry in run.journal().of_kind("note")]
    assert note == "checkpoints put aside: 10 (another run's); continues from step 0"


def test_a_checkpoint_that_is_not_in_the_journal_is_recomputed(run):
    checkpoint.save(run.path, 25, checkpoint.load(newest(run)), {"edits": 0})
    lines: list[str] = []
    _state, verdict = replay(run, 25, lines.append)
    assert (verdict.verdict, verdict.start, verdict.checked) == ("exact", 20, 5)
    assert "checkpoint 25 is not used" in lines[0]
    assert "is not in the journal" in lines[0]


def test_a_checkpoint_that_was_saved_but_not_recorded_is_put_aside_as_that(run):
    """Killed between its rename and its line in the journal: no damage, and not another run's."""
    lines = run.journal_path.read_bytes().splitlines(keepends=True)
    (last,) = (at for at, line in enumerate(lines) if b'"kind":"checkpoint"' in line and b'"step":30' in line)
    run.journal_path.write_bytes(b"".join(lines[:last]))
    resume(run, World(), Show())
    (note,) = [entry.fields["text"] for entry in run.journal().of_kind("note")]
    assert note == "checkpoints put aside: 30 (not recorded in the journal); continues from step 20"
    assert checkpoint_files.list_steps(run.path)[-1] == 30


def test_what_was_not_recomputed_is_not_called_exact(run):
    assert replay(run, 30)[1].verdict == MATCHES
    assert replay(run, 0)[1].verdict == "initial weights"
    assert replay(run, 12)[1].verdict == "exact"
    assert all(replay(run, step)[1].sure for step in (0, 12, 30))


def test_rows_that_are_lost_prove_nothing_unless_a_later_one_does(run):
    path = run.path / "metrics-0001.jsonl"
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join(lines[:13] + lines[14:]))  # the row of step 12
    verdicts = {to: Replay(run).go_to(to) for to in (12, 13, 14)}
    assert [(to, verdict.verdict, verdict.checked, verdict.step) for to, verdict in verdicts.items()] == [
        (12, "exact", 2, None), (13, "not recorded", 2, 12), (14, "exact", 4, None),
    ]  # fmt: skip


def test_a_damaged_newest_checkpoint_is_said_with_the_step_that_is_used(run, monkeypatch, capsys, tmp_path):
    flip(newest(run) / "networks.safetensors")
    lines: list[str] = []
    opened = Run.open("mine", run.path.parent, tell=lines.append)
    assert opened.step == 20
    assert "checkpoint 30 is not used" in lines[0]
    assert lines[0].endswith("; goes on with step 20")
    words = ("mine", "--runs", str(run.path.parent))
    code, out, err = command(
        monkeypatch, capsys, "export", *words, "--to", "safetensors", "--out", str(tmp_path / "x")
    )
    assert code == 0
    assert out.splitlines()[0] == f"{tmp_path / 'x'} (step 20)"
    assert "checkpoint 30 is not used" in err
    code, out, err = command(
        monkeypatch, capsys, "sample", *words, "--n", "2", "--out", str(tmp_path / "y.png")
    )
    assert (code, out) == (0, f"{tmp_path / 'y.png'} (step 20)\n")
    assert "checkpoint 30 is not used" in err
    again = Run.open("mine", run.path.parent, 30, recompute=True, tell=lines.append)
    assert (again.verdict.verdict, again.verdict.start) == ("exact", 20)
    with pytest.raises(
        UserError, match=r"mine has no good last checkpoint .*; make it again with: safelight resume"
    ):
        of_run("run:mine", "mine", run.path.parent)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_one_line(run, value):
    path = newest(run)
    tensors = load_file(path / "networks.safetensors")
    name = sorted(tensors)[0]
    tensors[name].view(-1)[0] = value
    groups = {**checkpoint.load(path), "networks": tensors}
    shutil.rmtree(path)
    saved = checkpoint.save(run.path, 30, groups, {"edits": 0})
    with JournalWriter(run.journal_path) as writer:
        writer.checkpoint(30, saved.digest)
    for use in (lambda: Run.open("mine", run.path.parent).model, lambda: resume(run, World(), Show())):
        with pytest.raises(
            UserError, match=f"checkpoint 30: {name} is not finite; go back to an earlier step"
        ):
            use()


def test_tensors_of_another_type_do_not_fit(run):
    state: State = Replay(run).state
    groups = {group: {name: value.double() for name, value in tensors.items()}
              for group, tensors in state.groups().items()}  # fmt: skip
    with pytest.raises(UserError, match=r"is torch\.float64, not torch\.float32"):
        state.load(groups, 3)


def test_a_picture_that_is_damaged_is_left_out_of_the_report_and_named(run):
    for path in sorted((run.path / "sheets").glob("*.png")):
        path.write_bytes(b"no picture")
    html = write_report(run).read_text()
    assert "is not a readable picture" in html


def test_a_run_of_the_first_version_goes_on_to_the_same_bits(run):
    """Without formats and checksums, as 0.1.0 wrote it."""
    from safelight.store import sealed

    digest = checkpoint_files.digest_of(newest(run))
    fields = sealed.unseal((run.path / "run.json").read_bytes())
    assert fields
    assert fields.pop("format")
    (run.path / "run.json").write_bytes(sealed.pretty(fields))
    lines = [sealed.unseal(line) or {} for line in run.journal_path.read_bytes().splitlines()]
    plain = [{name: value for name, value in line.items() if name != "format"} for line in lines]
    run.journal_path.write_bytes(b"".join(map(sealed.line, plain)))
    path = run.path / "metrics-0001.jsonl"
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    old = [{name: value for name, value in row.items() if name not in ("format", "check")} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in old))
    before = metrics.read(run.path)
    shutil.rmtree(newest(run))
    resume(run, World(), Show())
    assert checkpoint_files.digest_of(newest(run)) == digest
    after = metrics.read(run.path)
    assert (after["fingerprint"] == before["fingerprint"]).all()
    assert np.isclose(after["total"], before["total"], rtol=0, atol=0).all()
