"""Any step of a run, reached again: the checkpoint before it, and the steps from there, recomputed.

Every recomputed step has a recorded fingerprint to agree with, so that the verdict is proved, not hoped.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property

from torch import nn

from safelight.config import UserError
from safelight.data.edits import EditedStream
from safelight.engine import fingerprint, precision
from safelight.engine.distributed import World
from safelight.engine.fingerprint import differences
from safelight.engine.loop import Job, Signals, StepRecord, Stop, train
from safelight.engine.precision import Execution
from safelight.engine.state import State, built
from safelight.loading.averages import require_either, weighted
from safelight.loading.codecs import open_space
from safelight.loading.dependencies import products_of, used
from safelight.loading.in_force import InForce
from safelight.loading.model import (
    MATCHES,
    UNDAMAGED,
    Model,
    ReplayVerdict,
    RunData,
    Source,
    average_words,
    evaluated,
    state_of,
)
from safelight.loading.prepare import Prepared, prepare, reading_device
from safelight.loading.recorded import code_facts, execution_of, recipe_of, require_data, spec_of
from safelight.store import checkpoint, checkpoint_files, metrics
from safelight.store.directory import RunDirectory
from safelight.store.listing import owner_of
from safelight.store.tape import TapeReader, Weights, rounded
from safelight.types import Nets, Tell


class Networks(dict[str, nn.Module]):
    """Networks by name. Asking for one that the tape does not keep raises UserError."""

    def __missing__(self, name: str) -> nn.Module:
        raise UserError(f"tape.networks: samples need {name}, which this run's tape does not keep")


class Replay:
    """A run at whichever of its steps one goes to; quickest in their order. Nothing on disk changes."""

    def __init__(
        self, directory: RunDirectory, tell: Tell = lambda line: None, warn: Tell | None = None
    ) -> None:
        """tell: takes a line about what is recomputed, or damaged. Raises UserError for a damaged run.

        warn: takes a line where the run is read on another device than its own. Default: `tell`.
        """
        self.directory, self.tell = directory, tell
        self.info = directory.info()
        self.recipe = recipe_of(directory)
        self.device = reading_device(self.recipe, warn or tell)
        if self.recipe.train.device not in ("auto", str(self.device), self.device.type):
            self.recipe = self.recipe.with_changes({"train.device": str(self.device)})
        self.first = self.info.parent.step if self.info.parent else 0  # of its own steps
        self.recorded = {int(line["step"]): line["fingerprint"] for line in metrics.merged(directory.path)}
        self.in_force = InForce.of(directory)
        self._sessions = directory.journal().of_kind("session")
        self.execution = Execution(**execution_of(directory))
        self.products = products_of(directory)
        self.opened = used(self.recipe, self.products)
        self.method = self.opened.method()
        self.spec = spec_of(directory)
        self._state: State | None = None
        self._saved = False  # whether it began as a checkpoint
        self._start = 0  # where the steps that were recomputed begin
        self._agreed: list[bool | None] = []  # one for each of them; None where no fingerprint is recorded

    def exact(self, step: int) -> Model:
        """The run at a step, its averages as they were trained. Raises UserError as `go_to`."""
        verdict = self.go_to(step)
        return self._model(step, evaluated(self.method, self.state), verdict, _source(verdict))

    def weighted(
        self, step: int, length: float | None = None, raw: bool = False, tell: Tell | None = None
    ) -> Model:
        """The run at a step with an average of a relative length, or the weights as trained.

        A step before a fork's first one is that of the run it came from. Raises UserError as `exact`, and for
        an average that cannot be made.
        """
        require_either(length, raw)
        if step < self.first:
            return replace(self._before.weighted(step, length, raw, tell), data=self.data)
        return weighted(self.exact(step), self.state, length, raw, tell or self.tell)

    def rounded(self, step: int) -> Model:
        """The run at a step, for pictures: its averages from the tape, a checkpoint, or recomputed.

        They are rounded to bfloat16, as a tape holds them, so that a picture is the same wherever its weights
        come from. A step before a fork's first one is that of the run it came from. Going on to another step
        changes the networks. Raises UserError for a step that cannot be reached.
        """
        if step < self.first:
            return replace(self._before.rounded(step), data=self.data)
        source: Source = "tape"
        weights, verdict = self._taped(step), ReplayVerdict(UNDAMAGED, step, step, 0)
        if weights is None:
            verdict = self.go_to(step)
            weights = {name: {key: rounded(value) for key, value in net.state_dict().items()}
                       for name, net in self.state.averages.networks.items()}  # fmt: skip
            source = _source(verdict)
        nets = Networks({name: self._networks[name] for name in self.method.frozen})
        for name, values in weights.items():
            self._networks[name].load_state_dict(values)
            nets[name] = self._networks[name]
        return self._model(step, nets, verdict, source)

    def _model(self, step: int, nets: Nets, verdict: ReplayVerdict, source: Source) -> Model:
        recipe = self.in_force.recipe_at(step)
        return Model(
            self.method,
            nets,
            recipe.sample,
            self.spec,
            recipe,
            self.data,
            step,
            precision.autocast(self.device, self.execution.precision),
            self.execution.precision,
            average_words(recipe, self.method),
            source,
            verdict,
        )

    def _taped(self, step: int) -> Weights | None:
        """The averages of a frame of the tape; None without it, and where it is damaged."""
        if step not in self._tape:
            return None
        try:
            return self._tape.read(step)
        except UserError as damage:
            self.tell(str(damage))
            return None

    @cached_property
    def _tape(self) -> TapeReader:
        tape = TapeReader(self.directory.path)
        for damage in tape.damage:
            self.tell(damage)
        return tape

    @cached_property
    def data(self) -> RunData:
        """The run's data, opened when they are needed."""
        space = open_space(self.directory, self.products, self.device)

        def other(directory: RunDirectory, step: int) -> Model:
            return Replay(directory, self.tell).exact(step)

        return RunData(self.directory, self.opened, self.device, space, other=other)

    @cached_property
    def _before(self) -> Replay:
        """The run that this one was forked from."""
        return Replay(owner_of(self.directory, self.first - 1), self.tell)

    @cached_property
    def _networks(self) -> dict[str, nn.Module]:
        """Networks that are not trained, for the weights of tapes."""
        nets = built(self.method, self.spec, self.recipe.train, self.device, self.execution.memory_format)
        names: Sequence[str] = (*self.method.frozen, *self.method.ema)
        return {name: nets[name].eval().requires_grad_(False) for name in names}

    def go_to(self, to: int) -> ReplayVerdict:
        """Bring the state to `to` steps, from where it is or from a checkpoint. Raises UserError.

        A step that has a checkpoint is loaded; nothing is recomputed.
        """
        recorded = max(self.recorded, default=self.first - 1) + 1
        last = max([recorded, *checkpoint_files.list_steps(self.directory.path)])
        if not self.first <= to <= last:
            raise UserError(f"step {to}: {self.directory.name} has recorded the steps {self.first} to {last}")
        if to != self.state.step or (self.info.facts.init and not self._saved):
            self._load_before(to)
        if self.state.step < to:
            self._recompute(to)
        return self._verdict(to)

    def through(self, begin: int, to: int) -> ReplayVerdict:
        """Recompute the steps from `begin` to `to`, whatever checkpoints there are between. Raises UserError.

        Where `to` has a checkpoint, the whole state has to be that of it: what is recomputed from there on
        began with these bits.
        """
        self.go_to(begin)
        self._recompute(to)
        verdict = self._verdict(to)
        saved = self.directory.digests().get(to)
        if verdict.verdict == "exact" and saved and checkpoint.digest(self.state.groups()) != saved:
            return replace(verdict, verdict="diverged", step=to - 1)
        return verdict

    def _verdict(self, to: int) -> ReplayVerdict:
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
        return state_of(
            self.directory, self.recipe, self.method, self.spec, self.device, self.execution.memory_format,
            self.execution.compile,
        )  # fmt: skip

    def _load_before(self, to: int) -> None:
        """Load the nearest good checkpoint up to a step, unless the state is nearer already."""
        begun = self._saved or not self.info.facts.init  # with the weights it had
        here = self.state.step if begun and self.first <= self.state.step <= to else None
        above, known = -1 if here is None else here, self.directory.digests()
        nearer = checkpoint.good_before(self.directory.path, to, above, known, self.tell)
        if nearer is not None:
            self._start, groups = nearer
            self._saved = True
            self.state.load(groups, self._start)
        elif here is not None:
            return
        elif self.first > 0 or self.info.facts.init:
            raise UserError(
                f"{self.directory.name}: has no good checkpoint up to step {to}, not even that it began with"
            )
        else:
            self._state, self._start, self._saved = self._beginning(), 0, False
        self._agreed = []

    def _recompute(self, to: int) -> None:
        ready, state = self._ready, self.state
        if not self._agreed:
            self.tell(f"recomputing steps {state.step} to {to}")

        def record(step: StepRecord) -> None:
            recomputed, recorded = fingerprint.as_hex(int(step.fingerprint)), self.recorded.get(step.step)
            self._agreed.append(None if recorded is None else recomputed == recorded)

        def boundary(signals: Signals) -> None:
            if state.step == to:
                raise Stop

        job = Job(
            self.method,
            state,
            EditedStream(ready.stream, lambda step: self.in_force.recipe_at(step).data),
            self.in_force.plan_at,
            record,
            boundary,
            autocast=lambda: precision.autocast(self.device, self._precision_at(state.step))(),
            device=self.device,
        )
        with suppress(Stop):
            train(job)

    def _precision_at(self, step: int) -> str:
        """The arithmetic of the session that recorded a step; a run may go on with another."""
        began = [
            entry.fields.get("environment", {}) for entry in self._sessions if entry.fields["step"] <= step
        ]
        stated = began[-1].get("precision") if began else None
        return stated if stated in ("fp32", *precision.DTYPES) else self.execution.precision

    @cached_property
    def _ready(self) -> Prepared:
        """The data, which only recomputing needs."""
        ready = prepare(self.recipe, World(), self.tell, self.products)
        require_data(self.directory, ready.pack)
        return ready

    @cached_property
    def _now(self) -> dict[str, str | int]:
        """The environment and code of this process."""
        chosen = self.execution
        return {
            **fingerprint.environment(self.device, chosen.precision, chosen.memory_format, 1, chosen.compile),
            **code_facts(self.recipe),
        }

    def _differences(self, to: int) -> list[str]:
        """In what the sessions that recorded the steps differ from this process, in environment and code."""
        phrases: list[str] = []
        for number, session in enumerate(self._sessions):
            following = [int(later.fields["step"]) for later in self._sessions[number + 1 :]]
            if int(session.fields["step"]) < to and min(following, default=to) > self._start:
                was = {**session.fields.get("environment", {}), **session.fields.get("code", {})}
                if was.get("deterministic") == "off":
                    phrases.append("train.deterministic=false: its algorithms do not repeat their bits")
                phrases += differences(was, {**self._now, "precision": was.get("precision", "fp32")})
        return list(dict.fromkeys(phrases))


def _source(verdict: ReplayVerdict) -> Source:
    return "replay" if verdict.start < verdict.to else "checkpoint"


def replay(directory: RunDirectory, to: int, tell: Tell = lambda line: None) -> tuple[State, ReplayVerdict]:
    """The state of a run after `to` steps, and how sure it is. Changes nothing on disk. Raises UserError.

    A step before a fork's first one is that of the run it came from.
    """
    run = Replay(owner_of(directory, to), tell)
    verdict = run.go_to(to)
    return run.state, verdict
