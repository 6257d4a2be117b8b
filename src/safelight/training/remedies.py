"""`monitor.act`: remedies tried one at a time, each in a fork that takes the run's place, and gone back from.

Decisions are entries "remedy" of the journal, written before anything follows from them, so that a crash at
any moment loses none: whoever resumes the run first does what its journal says is still to be done.

    tried      this run is left: a fork with a remedy goes on from `rescue`, under this run's name
    begun      the first entry of that fork
    helped     the fork keeps its remedy
    failed     the fork is left: the next remedy is tried, from the run and step that it came from
    given up   the run goes on as it is; of that verdict nothing more is tried here
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from safelight.config import UserError
from safelight.loading.in_force import InForce
from safelight.monitor.config import Name
from safelight.monitor.judge import HealthMonitor
from safelight.monitor.remedies import Remedy
from safelight.monitor.trial import RemedyTrial, Trouble, first_trial, following, given_up
from safelight.monitor.verdicts import CAUSES
from safelight.recipe import Recipe
from safelight.store import renaming
from safelight.store.directory import RunDirectory, names
from safelight.store.durable import Announce, silence
from safelight.store.journal import Journal, JournalEntry, holding
from safelight.store.journal_writer import JournalWriter
from safelight.store.listing import ancestors, parent_of
from safelight.training.fork import fork
from safelight.types import Tell


class Treatment:
    """What a session decides on remedies. Only the first process has it.

    recipe_at: as in force at a step. steps: planned.
    """

    def __init__(
        self,
        directory: RunDirectory,
        writer: JournalWriter,
        recipe_at: Callable[[int], Recipe],
        steps: int,
        tell: Tell,
    ) -> None:
        self.directory, self.writer, self.tell = directory, writer, tell
        self.recipe_at, self.steps = recipe_at, steps
        self.trial = under_trial(writer.journal)
        self.leaves = ""  # why this run is to be left; "" while it is not

    def consider(self, step: int, judge: HealthMonitor, watched: bool) -> None:
        """Decide what follows from the verdicts after `step` steps, and journal it."""
        if self.leaves or not (judge.holding or self.trial) or not self.recipe_at(step).monitor.act:
            return
        begun = holding(self.writer.journal)  # in this run, not in the one it was forked from
        holds = [name for name in judge.holding if name in begun]
        if self.trial is None:
            settled = {entry.fields["verdict"] for entry in self.writer.journal.of_kind("remedy")
                       if entry.fields["event"] in ("tried", "given up")}  # fmt: skip
            for name in holds:  # causes before what they bring about
                if name not in settled and not self.leaves:
                    self._begin(name, step)
            return
        trouble = self.trial.trouble
        if worse := [name for name in holds if name in (trouble.verdict, *CAUSES)]:
            self.leaves = f"{self.trial.words} did not help: {', '.join(worse)}"
            self._append("failed", step, self.trial, why=", ".join(worse), name=self.directory.name)
            self.tell(f"step {step}: {self.leaves}; goes back to step {trouble.rescue}")
        elif watched and step >= trouble.until and judge.calm(trouble.verdict):
            self._append("helped", step, self.trial)
            self.tell(f"step {step}: {self.trial.words} helped: no longer {trouble.verdict}")
            self.trial = None

    def _begin(self, name: Name, step: int) -> None:
        """Try the first remedy against a verdict that holds, or say that there is none."""
        begun = [entry.fields for entry in self.writer.journal.of_kind("verdict")
                 if entry.fields["name"] == name and entry.fields["begins"]][-1]  # fmt: skip
        recipe = self.recipe_at(begun["step"])
        until = min(begun["step"] + recipe.monitor.patience_steps(self.steps), self.steps)
        parent = self.directory.info().parent
        rescue = max(begun["rescue"], parent.step if parent else 0)  # 0: no checkpoint was early enough
        trouble = Trouble(name, begun["step"], rescue, until, begun["measured"], begun["expected"])
        tried = tried_along(self.writer.journal)
        trial, skipped = first_trial(trouble, recipe.tree, tried)
        self.tell_skipped(skipped)
        if trial is None:
            give_up(self.writer, name, step, tried)
            self.tell(given_up(name, tried))
            return
        self.leaves = f"{trial.text}, in a fork from step {trouble.rescue}"
        self._append("tried", step, trial, name=self.directory.name)
        self.tell(f"step {step}: tries {self.leaves}")

    def tell_skipped(self, skipped: Sequence[Remedy]) -> None:
        """Name the remedies that only a new run can have."""
        for remedy in skipped:
            self.tell(f"  {remedy.words}: needs a new run, so it is not tried")

    def _append(self, event: str, step: int, trial: RemedyTrial, **more: str) -> None:
        self.writer.append("remedy", {"event": event, "at": step, **trial.to_dict(), **more})


def settle(directory: RunDirectory, tell: Tell, announce: Announce = silence) -> RunDirectory | None:
    """Do what a run's journal says of remedies and has not been done. Returns the run that was left for it.

    Afterwards the run's name is that of the fork that goes on, or of the run that it was forked from, where
    no remedy is left. Raises UserError.
    """
    if (pending := _pending(directory)) is None:
        return None
    runs, name, event = directory.path.parent, directory.name, pending.fields["event"]
    trial: RemedyTrial | None = RemedyTrial.of(pending.fields)
    assert trial is not None
    trouble, number, before = trial.trouble, trial.number, directory
    if event == "failed":
        parent = parent_of(directory)
        if parent is None:
            raise UserError(f"{name}: the run that it was forked from is gone; put it back, or fork {name}")
        before = parent
        trial, _ = following(trial, InForce.of(before).recipe_at(trouble.step).tree)
    with directory.lock():
        if trial is None:
            announce("remedy.given up")
            _give_up(before, trouble, number)
            aside, goes_on = renaming.free(runs, f"{name}-tried-{number}"), before
            tell(given_up(trouble.verdict, number))
        else:
            announce("remedy.fork")
            goes_on = _made(before, trial) or fork(
                before,
                trouble.rescue,
                {**trial.changes, "monitor.act": True},
                runs,
                renaming.free(runs, f"{name}-from-{trouble.rescue}"),
                tell,
                {"event": "begun", "at": trouble.rescue, **trial.to_dict()},
            )
            announce("remedy.made")
            aside = renaming.free(runs, f"{name}-before-{trouble.rescue}" if event == "tried" else
                                f"{name}-tried-{number}")  # fmt: skip
            with JournalWriter(directory.journal_path) as writer:
                fields = {"step": trouble.rescue, "run": goes_on.info().id, "renamed": aside}
                writer.append("fork", {"text": f"tries {trial.text}", **fields})
            if event == "failed":
                tell(f"tries {trial.text}, in a fork from step {trouble.rescue}")
        renaming.hand_over(runs, name, goes_on.name, aside, announce)
    return RunDirectory(runs / aside)


def under_trial(journal: Journal) -> RemedyTrial | None:
    """The remedy that a run was forked for, while it is not judged."""
    entries = journal.of_kind("remedy")
    if not entries or entries[0].fields["event"] != "begun":
        return None
    judged = any(entry.fields["event"] in ("helped", "failed") for entry in entries)
    return None if judged else RemedyTrial.of(entries[0].fields)


def tried_along(journal: Journal) -> int:
    """How many remedies were tried along the lineage of a run, by its own journal."""
    return max((int(entry.fields["number"]) for entry in journal.of_kind("remedy")), default=0)


def untreated(directory: RunDirectory) -> RunDirectory:
    """The run that was begun: what a run was before any remedy."""
    above = ancestors(directory)
    while any(entry.fields["event"] == "begun" for entry in directory.journal().of_kind("remedy")):
        if (before := next(above, None)) is None:
            break
        directory = before
    return directory


def give_up(writer: JournalWriter, verdict: Name, step: int, number: int) -> None:
    """Journal that of a verdict nothing more is tried in this run."""
    writer.append("remedy", {"event": "given up", "at": step, "verdict": verdict, "number": number})


def _pending(directory: RunDirectory) -> JournalEntry | None:
    """The decision by which a run is to be left, unless it was: then it has another name by now."""
    entries = directory.journal().of_kind("remedy")
    if not entries or entries[-1].fields["event"] not in ("tried", "failed"):
        return None
    return entries[-1] if entries[-1].fields["name"] == directory.name else None


def _give_up(directory: RunDirectory, trouble: Trouble, number: int) -> None:
    """Journal it in a run that is gone back to, once."""
    with directory.lock(), JournalWriter(directory.journal_path) as writer:
        last = writer.journal.of_kind("remedy")[-1].fields
        if last["event"] != "given up":
            give_up(writer, trouble.verdict, trouble.step, number)


def _made(before: RunDirectory, trial: RemedyTrial) -> RunDirectory | None:
    """The fork of a trial, where a crash came between making it and giving it its name."""
    return next((run for run in _forks(before) if _trial_of(run) == trial), None)


def _forks(of: RunDirectory) -> Iterator[RunDirectory]:
    parent = of.info().id
    for name in names(of.path.parent):
        run = RunDirectory(of.path.parent / name)
        try:
            if (origin := run.info().parent) and origin.run == parent:
                yield run
        except UserError:
            continue


def _trial_of(directory: RunDirectory) -> RemedyTrial | None:
    return under_trial(directory.journal())
