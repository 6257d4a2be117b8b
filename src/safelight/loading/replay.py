"""Any step of a run, reached again: the checkpoint before it, and the steps from there, recomputed.

Every recomputed step has a recorded fingerprint to agree with, so that the verdict is proved, not hoped.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import torch
from torch import nn

from safelight.config import UserError
from safelight.engine import fingerprint, precision
from safelight.engine.distributed import World
from safelight.engine.fingerprint import differences
from safelight.engine.loop import Job, Signals, StepRecord, Stop, train
from safelight.engine.precision import Execution
from safelight.engine.state import Groups, State, built
from safelight.loading.dependencies import products_of, used
from safelight.loading.in_force import InForce
from safelight.loading.prepare import Prepared, open_device, prepare
from safelight.loading.recorded import code_facts, recipe_of, require_data, spec_of
from safelight.recipe import Recipe
from safelight.store import checkpoint, checkpoint_files, metrics
from safelight.store.checkpoint_files import Another
from safelight.store.directory import RunDirectory
from safelight.store.listing import owner_of
from safelight.store.tape import TapeReader, Weights, rounded
from safelight.types import Autocast, DataSpec, Method, Tell

MATCHES: Final = "checkpoint matches the journal"
UNDAMAGED: Final = "recorded checksum matches"
SURE = ("exact", MATCHES, UNDAMAGED, "initial weights")


@dataclass(frozen=True)
class ReplayVerdict:
    """What a replay proved.

    exact: every recomputed step has the recorded fingerprint, and the environment is the recorded one.
    checkpoint matches the journal: nothing was recomputed; the state has the digest that was journalled.
    recorded checksum matches: read from a tape or a film, whose frame is as it was written; no more is known.
    initial weights: nothing was recomputed; they are what the recipe makes here.
    not recorded: the fingerprint of the last step is lost, from `step` on nothing is proved.
    diverged: `step` is the first whose weights differ.
    environment differs: in `why`; equal bits would be luck.
    """

    verdict: Literal[
        "exact", "checkpoint matches the journal", "recorded checksum matches", "initial weights",
        "not recorded", "diverged", "environment differs",
    ]  # fmt: skip
    to: int  # steps behind the state that was reached
    start: int  # of the checkpoint it started from; 0 for none
    checked: int  # steps whose fingerprints agreed
    step: int | None = None
    why: tuple[str, ...] = ()

    @property
    def agreed(self) -> bool:
        """Whether every recomputed step has its recorded fingerprint, in whatever environment."""
        return self.checked == self.to - self.start

    @property
    def sure(self) -> bool:
        """Whether the state is known to be the one that the run had."""
        return self.verdict in SURE


class Replay:
    """A run in memory, at whichever of its steps one goes to. Nothing on disk changes."""

    def __init__(self, directory: RunDirectory, tell: Tell = lambda line: None) -> None:
        """Raises UserError for a damaged run."""
        self.directory, self.tell = directory, tell
        self.info = directory.info()
        self.recipe = recipe_of(directory)
        self.first = self.info.parent.step if self.info.parent else 0  # of its own steps
        self.recorded = {int(line["step"]): line["fingerprint"] for line in metrics.merged(directory.path)}
        journal = directory.journal()
        self.images = int(self.info.facts.data["train"])
        self.in_force = InForce(self.recipe, self.images, journal.interventions)
        self._sessions = journal.of_kind("session")
        self.device = open_device(self.recipe.train.device)
        self.execution = Execution(**self.info.facts.execution)
        self.method = used(self.recipe, products_of(directory)).method()
        self.spec = spec_of(directory)
        self.autocast = precision.autocast(self.device, self.execution.precision)
        self._state: State | None = None
        self._saved = False  # whether it began as a checkpoint
        self._start = 0  # where the steps that were recomputed begin
        self._agreed: list[bool | None] = []  # one for each of them; None where no fingerprint is recorded

    def go_to(self, to: int) -> ReplayVerdict:
        """Bring the state to `to` steps, from where it is or from a checkpoint. Raises UserError.

        A step that has a checkpoint is loaded; nothing is recomputed.
        """
        recorded = max(self.recorded, default=self.first - 1) + 1
        last = max([recorded, *checkpoint_files.list_steps(self.directory.path)])
        if not self.first <= to <= last:
            raise UserError(f"step {to}: {self.directory.name} has recorded the steps {self.first} to {last}")
        if to != self.state.step:
            self._load_before(to)
        if self.state.step < to:
            self._recompute(to)
        if not self._agreed:
            return ReplayVerdict(MATCHES if self._saved else "initial weights", to, self._start, 0)
        count = len(self._agreed)
        # Equal weights after a step prove those before it, whose rows a power cut may have taken.
        proved = max((at + 1 for at, same in enumerate(self._agreed) if same), default=0)
        first = self._agreed.index(False) if False in self._agreed else count
        checked = min(first, proved)
        step = None if checked == count else self._start + checked
        if why := tuple(self._differences(to)):
            return ReplayVerdict("environment differs", to, self._start, checked, why=why)
        if step is None:
            return ReplayVerdict("exact", to, self._start, checked)
        return ReplayVerdict("diverged" if first < count else "not recorded", to, self._start, checked, step)

    @property
    def state(self) -> State:
        """The state that was gone to."""
        if self._state is None:
            self._state = self._beginning()
        return self._state

    def _beginning(self) -> State:
        plan = self.recipe.plan(self.images)
        return State(self.method, self.spec, plan, self.device, self.execution.memory_format)

    def _load_before(self, to: int) -> None:
        """Load the nearest good checkpoint up to a step, unless the state is nearer already."""
        here = self.state.step if self.first <= self.state.step <= to else None
        found = good_before(self.directory, to, -1 if here is None else here, self.tell)
        if found is not None:
            self._start, groups = found
            self._saved = True
            self.state.load(groups, self._start)
        elif here is not None:
            return
        elif self.first > 0:
            raise UserError(
                f"{self.directory.name}: has no good checkpoint up to step {to}, not even that of its fork"
            )
        else:
            self._state, self._start, self._saved = self._beginning(), 0, False
        self._agreed = []

    def _recompute(self, to: int) -> None:
        ready, state = self._ready, self.state
        if not self._agreed:
            self.tell(f"recomputing steps {state.step} to {to}")

        def record(one: StepRecord) -> None:
            mine = fingerprint.as_hex(int(one.fingerprint))
            recorded = self.recorded.get(one.step)
            self._agreed.append(None if recorded is None else mine == recorded)

        def boundary(signals: Signals) -> None:
            if state.step == to:
                raise Stop

        job = Job(
            self.method,
            state,
            ready.stream,
            self.in_force.plan_at,
            record,
            boundary,
            autocast=self.autocast,
            device=self.device,
        )
        with suppress(Stop):
            train(job)

    @cached_property
    def _ready(self) -> Prepared:
        """The data, which only recomputing needs."""
        ready = prepare(self.recipe, World(), self.tell, products_of(self.directory))
        require_data(self.directory, ready.pack)
        return ready

    @cached_property
    def _now(self) -> dict[str, str | int]:
        """The environment and code of this process."""
        chosen = self.execution
        return {
            **fingerprint.environment(self.device, chosen.precision, chosen.memory_format, 1),
            **code_facts(self.recipe),
        }

    def _differences(self, to: int) -> list[str]:
        """In what the sessions that recorded the steps differ from this process, in environment and code."""
        phrases: list[str] = []
        for number, session in enumerate(self._sessions):
            following = [int(later.fields["step"]) for later in self._sessions[number + 1 :]]
            if int(session.fields["step"]) < to and min(following, default=to) > self._start:
                was = {**session.fields.get("environment", {}), **session.fields.get("code", {})}
                phrases += differences(was, self._now)
        return list(dict.fromkeys(phrases))


def replay(directory: RunDirectory, to: int, tell: Tell = lambda line: None) -> tuple[State, ReplayVerdict]:
    """The state of a run after `to` steps, and how sure it is. Changes nothing on disk. Raises UserError.

    A step before a fork's first one is that of the run it came from.
    """
    run = Replay(owner_of(directory, to), tell)
    verdict = run.go_to(to)
    return run.state, verdict


def good_before(
    directory: RunDirectory, to: int, above: int = -1, tell: Tell = lambda line: None
) -> tuple[int, Groups] | None:
    """The newest checkpoint that verifies, of the steps up to `to` and above `above`; None for none.

    tell: takes a line for each that does not. Raises UserError for another run's in the place of one's own.
    """
    known = directory.digests()
    for step in reversed(checkpoint_files.list_steps(directory.path)):
        if above < step <= to:
            try:
                return step, checkpoint.load(checkpoint_files.directory(directory.path, step), known)
            except Another:  # what it leads to would not be this run
                raise
            except UserError as error:  # damaged, or just let go by its writer
                tell(f"checkpoint {step} is not used: {error}")
    return None


# --- The networks of a run at any of its steps, for pictures: from the tape, a checkpoint, or recomputed ---
# Always rounded to bfloat16, as a tape holds them, so that a picture does not tell where its weights came
# from.
# Steps before a fork's first one are those of the run it came from.

Source = Literal["tape", "checkpoint", "replay"]


class Networks(dict[str, nn.Module]):
    """Networks by name. Asking for one that the tape does not keep raises UserError."""

    def __missing__(self, name: str) -> nn.Module:
        raise UserError(f"tape.networks: samples need {name}, which this run's tape does not keep")


@dataclass(frozen=True)
class Reached:
    """A run at a step, ready to sample from. Going on to another step changes its networks."""

    step: int
    nets: Networks  # averaged and frozen ones, in evaluation mode, rounded
    source: Source
    verdict: ReplayVerdict
    method: Method  # which built these networks
    recipe: Recipe  # in force at the step
    spec: DataSpec
    device: torch.device
    autocast: Autocast


class Reach:
    """A run through its steps. Quickest in their order: tapes and replays go on from where they are."""

    def __init__(self, directory: RunDirectory, tell: Tell = lambda line: None) -> None:
        """Raises UserError for a damaged run. tell: takes a line about what is recomputed, or damaged."""
        self.directory, self.tell = directory, tell
        self.tape = TapeReader(directory.path)
        for damage in self.tape.damage:
            tell(damage)

    def at(self, step: int) -> Reached:
        """The networks after `step` steps. Raises UserError for a step that cannot be reached."""
        if step < self.replay.first:
            return self._before.at(step)
        if step in self.tape:
            try:
                weights = self.tape.read(step)
            except UserError as damage:
                self.tell(str(damage))
            else:
                return self._reached(step, weights, "tape", ReplayVerdict(UNDAMAGED, step, step, 0))
        verdict = self.replay.go_to(step)
        averages = self.replay.state.averages.networks
        weights = {name: {key: rounded(value) for key, value in net.state_dict().items()}
                   for name, net in averages.items()}  # fmt: skip
        return self._reached(step, weights, "replay" if verdict.start < step else "checkpoint", verdict)

    @cached_property
    def replay(self) -> Replay:
        """The run itself, recomputed where that is needed."""
        return Replay(self.directory, self.tell)

    @cached_property
    def _before(self) -> Reach:
        """The run that this one was forked from."""
        return Reach(owner_of(self.directory, self.replay.first - 1), self.tell)

    @cached_property
    def _networks(self) -> dict[str, nn.Module]:
        replay = self.replay
        seed, layout = replay.recipe.train.seed, replay.execution.memory_format
        nets = built(replay.method, replay.spec, seed, replay.device, layout)
        names: Sequence[str] = (*replay.method.frozen, *replay.method.ema)
        return {name: nets[name].eval().requires_grad_(False) for name in names}

    @torch.no_grad()
    def _reached(self, step: int, weights: Weights, source: Source, verdict: ReplayVerdict) -> Reached:
        own = self.replay
        nets = Networks({name: self._networks[name] for name in own.method.frozen})
        for name, state in weights.items():
            self._networks[name].load_state_dict(state)
            nets[name] = self._networks[name]
        recipe = own.in_force.recipe_at(step)
        return Reached(step, nets, source, verdict, own.method, recipe, own.spec, own.device, own.autocast)
