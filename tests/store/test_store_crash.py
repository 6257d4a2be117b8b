"""A writer ends at every stage of everything it does to a run; the run opens and has lost nothing before it.

In this process an exception that nothing catches stands for the end; in another one it is SIGKILL.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from safelight.store import checkpoint, checkpoint_files, inbox, metrics
from safelight.store.directory import RunDirectory, create
from safelight.store.durable import Announce, silence
from safelight.store.info import Facts
from safelight.store.journal_writer import JournalWriter

KEPT = 2


class Crash(BaseException):
    """Ends a writer where it stands."""


def new_run(folder: Path) -> RunDirectory:
    return create(folder, "[train]\n", recipe="toy", steps=100, facts=Facts({}, {}, {}, {}))


def train_a_step(run: RunDirectory, announce: Announce) -> None:
    """A whole session of one step: resume, settle edits, train, save, prune, end."""
    with run.lock(), JournalWriter(run.journal_path, announce) as journal:
        newest = checkpoint_files.newest_good(run.path, aside={})
        step = newest.step if newest else 0
        weight = checkpoint.load(newest.path)["networks"]["w"] if newest else torch.zeros(3)
        session = journal.start_session(step, 100, {"pid": os.getpid()})
        for edit in inbox.take(run.path, journal):
            inbox.settle(edit, step, journal, announce)
        with metrics.MetricsWriter(run.path, session, step, announce) as rows:
            rate = journal.journal.changes_at(step).get("lr", 1)
            weight += rate
            rows.append([metrics.MetricsRow(step, {}, float(weight[0]), {}, step + 1, 0.0, "")])
            rows.sync()
        saved = checkpoint.save(run.path, step + 1, {"networks": {"w": weight}}, {}, announce)
        journal.checkpoint(saved.step, saved.digest)
        checkpoint_files.prune(run.path, checkpoint_files.list_steps(run.path)[-KEPT:], announce)
        journal.end("stopped", saved.step, 100)


def check(run: RunDirectory, before: RunDirectory | None = None) -> None:
    """The run opens; what its journal says is there is there and whole; weights are the function they are."""
    with run.lock(), JournalWriter(run.journal_path) as writer:
        journal = writer.journal
        assert not list(run.path.rglob(".tmp-*"))
    newest = checkpoint_files.newest_good(run.path)
    said = journal.of_kind("checkpoint")
    assert (newest is None) <= (not said)
    if newest is None:
        return
    if said:
        assert newest.step >= said[-1].fields["step"]  # saved before it is journalled
    for entry in said:
        if entry.fields["step"] == newest.step:
            assert entry.fields["digest"] == newest.digest
    for step in checkpoint_files.list_steps(run.path):
        weight = checkpoint.load(checkpoint_files.verify(checkpoint_files.directory(run.path, step)).path)[
            "networks"
        ]["w"]
        expected = sum(journal.changes_at(done).get("lr", 1) for done in range(step))
        assert weight.tolist() == [expected] * 3
    rows = metrics.read(run.path, ["step"])["step"].tolist()
    assert rows[: newest.step] == list(range(newest.step))


def crash_everywhere(folder: Path, at_stage: Callable[[RunDirectory, int], None]) -> int:
    """Runs one session to crash at each of its stages, on one run, with whole sessions between them."""
    run = new_run(folder)
    heard: list[str] = []
    for edit in range(4):  # until a session does all there is to do, pruning included
        inbox.drop(run.path, {"lr": edit + 2}, "cli")
        heard.clear()
        train_a_step(run, heard.append)
        check(run)
    for number in range(len(heard)):
        inbox.drop(run.path, {"lr": number}, "cli")
        edits = len(run.journal().interventions)
        step = checkpoint_files.list_steps(run.path)[-1]
        at_stage(run, number)
        check(run)
        assert checkpoint_files.list_steps(run.path)[-1] in (step, step + 1)
        train_a_step(run, silence)
        check(run)
        assert [intervention.changes["lr"] for intervention in run.journal().interventions][edits:] == [
            number
        ]
    return len(heard)


def crasher(number: int, crash: Callable[[], None]) -> Announce:
    """Calls `crash` at the stage of that number."""
    counter = itertools.count()

    def announce(stage: str) -> None:
        if next(counter) == number:
            crash()

    return announce


def test_a_session_may_end_at_any_stage(tmp_path: Path) -> None:
    def crash() -> None:
        raise Crash

    def at_stage(run: RunDirectory, number: int) -> None:
        with pytest.raises(Crash):
            train_a_step(run, crasher(number, crash))

    stages = crash_everywhere(tmp_path, at_stage)
    assert stages >= 30


def kill_at_every_stage(folder: Path) -> None:
    """Run in a process of its own, which has no threads that a fork could lose."""

    def at_stage(run: RunDirectory, number: int) -> None:
        child = os.fork()
        if child == 0:
            train_a_step(run, crasher(number, lambda: os.kill(os.getpid(), signal.SIGKILL)))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status)
        assert os.WTERMSIG(status) == signal.SIGKILL

    print(crash_everywhere(folder, at_stage))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_session_may_be_killed_at_any_stage(tmp_path: Path) -> None:
    script = "import sys; sys.path.insert(0, sys.argv[1])\nfrom pathlib import Path\n"
    script += "from test_store_crash import kill_at_every_stage\nkill_at_every_stage(Path(sys.argv[2]))"
    arguments = [sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path)]
    result = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) >= 30


def test_making_a_run_may_end_at_any_stage(tmp_path: Path) -> None:
    heard: list[str] = []
    arguments = {"recipe": "toy", "steps": 1, "facts": Facts({}, {}, {}, {})}
    create(tmp_path, "", **arguments, announce=heard.append)
    assert heard[-3:] == ["run.rename", "run.directory", "run.done"]
    for number in range(len(heard)):

        def crash() -> None:
            raise Crash

        with pytest.raises(Crash):
            create(tmp_path, "", **arguments, announce=crasher(number, crash))
        made = [RunDirectory(path) for path in tmp_path.iterdir() if not path.name.startswith(".")]
        assert len(made) == 1 + max(number - heard.index("run.rename"), 0)
        for run in made:
            assert run.recipe_text() == ""
            check(run)
