"""Any step of a run, reached again: the checkpoint before it, and the steps from there, recomputed.

Every recomputed step has a recorded fingerprint to agree with, so that the verdict is proved, not hoped.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from safelight.config import UserError
from safelight.engine import fingerprint, precision
from safelight.engine.distributed import World
from safelight.engine.loop import Job, Signals, StepRecord, Stop, train
from safelight.engine.precision import Execution
from safelight.engine.state import State
from safelight.session.code import code_facts
from safelight.session.inforce import InForce
from safelight.session.prepare import Tell, prepare
from safelight.session.products import products_of
from safelight.session.recorded import recipe_of
from safelight.store import checkpoint, keep, manifest, metrics
from safelight.store.environment import differences
from safelight.store.run import RunDirectory


@dataclass(frozen=True)
class Verdict:
    """What a replay proved.

    exact: every recomputed step has the recorded fingerprint, and the environment is the recorded one.
    diverged: `step` is the first whose weights differ.
    environment differs: in `why`; equal bits would be luck.
    """

    verdict: Literal["exact", "diverged", "environment differs"]
    to: int  # steps behind the state that was reached
    start: int  # of the checkpoint it started from; 0 for none
    checked: int  # steps whose fingerprints agreed
    step: int | None = None
    why: tuple[str, ...] = ()


def replay(directory: RunDirectory, to: int, tell: Tell = lambda line: None) -> tuple[State, Verdict]:
    """The state of a run after `to` steps, and how sure it is. Changes nothing on disk. Raises UserError.

    A step that has a checkpoint is loaded; nothing is recomputed.
    """
    recorded = {line["step"]: line["fingerprint"] for line in metrics.merged(directory.path)}
    if not 0 <= to <= len(recorded):
        raise UserError(f"step {to}: {directory.name} has recorded {len(recorded)} steps")
    facts = directory.info().facts
    ready = prepare(recipe_of(directory), World(), tell, products_of(directory))
    if ready.pack.fingerprint != facts.data["fingerprint"]:
        raise UserError(f"{directory.path}: the data has changed since the run began; put it back")
    execution = Execution(**facts.execution)
    state = ready.state(execution.memory_format)
    start = max((step for step in good_steps(directory) if step <= to), default=0)
    if start:
        state.load(checkpoint.load(keep.directory(directory.path, start)), start)
    fingerprints: list[str] = []

    def record(one: StepRecord) -> None:
        fingerprints.append(fingerprint.as_hex(int(one.fingerprint)))

    def boundary(signals: Signals) -> None:
        if state.step == to:
            raise Stop

    if start < to:
        tell(f"recomputing steps {start} to {to}")
        in_force = InForce(ready.recipe, len(ready.pack.train), directory.journal().interventions)
        job = Job(
            ready.method,
            state,
            ready.stream,
            in_force.plan_at,
            record,
            boundary,
            autocast=precision.autocast(ready.device, execution.precision),
            device=ready.device,
        )
        with suppress(Stop):
            train(job)
    agreed = [mine == recorded[start + number] for number, mine in enumerate(fingerprints)]
    checked = agreed.index(False) if False in agreed else len(agreed)
    now = {
        **fingerprint.environment(ready.device, execution.precision, execution.memory_format, 1),
        **code_facts(ready.recipe),
    }
    why = tuple(_differences(directory, start, to, now)) if start < to else ()
    if why:
        return state, Verdict("environment differs", to, start, checked, why=why)
    if checked < len(agreed):
        return state, Verdict("diverged", to, start, checked, start + checked)
    return state, Verdict("exact", to, start, checked)


def good_steps(directory: RunDirectory) -> list[int]:
    """Steps of the checkpoints that verify."""
    good = []
    for step in keep.list_steps(directory.path):
        try:
            manifest.verify(keep.directory(directory.path, step))
        except UserError:
            continue
        good.append(step)
    return good


def _differences(directory: RunDirectory, start: int, to: int, now: dict[str, str | int]) -> list[str]:
    """In what the sessions that recorded these steps differ from this process, in environment and code."""
    sessions = directory.journal().of_kind("session")
    phrases: list[str] = []
    for number, session in enumerate(sessions):
        following = [int(later.fields["step"]) for later in sessions[number + 1 :]]
        if int(session.fields["step"]) < to and min(following, default=to) > start:
            was = {**session.fields["environment"], **session.fields["code"]}
            phrases += differences(was, now)
    return list(dict.fromkeys(phrases))
