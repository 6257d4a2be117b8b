"""Search of settings through Optuna: which to train next, and which to train no further.

Arms are runs. Each is trained to a rung, then goes on or rests there with its checkpoint: by successive
halving among those that came to the same rung (Li et al. 2020, asynchronous), or where the forecast of its
last value is worse than the best that another arm has ended with. The study is Optuna's journal, beside the
runs. What a trial tries is a function of the seed, its number and the study so far, and the name of its runs
one of its settings: a search that was cut off goes on where it was, and nothing is trained twice.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safelight.data.source import Progress
from safelight.fanout import POLL
from safelight.monitor.forecast import Known, forecast
from safelight.store import lock
from safelight.store.durable import mendable
from safelight.training.arms import ETA, Arm, Space, require_optuna, rungs, stretch, workers
from safelight.training.progress import Show

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.study import Study

STUDY = "study.jsonl"
SAMPLERS = ("tpe", "random")
ALIKE = 2  # first arms that fail for one reason, after which so would the rest
LEAST = 9  # finished arms from which others are forecast well enough to stop one


@dataclass
class Searched:
    """What has become of a search."""

    space: Space
    arms: list[Arm]
    stopped: bool = False  # by Ctrl-C
    over: bool = False  # the budget
    hopeless: bool = False

    @property
    def best(self) -> list[Arm]:
        """Finished arms, the best first."""
        done = [arm for arm in self.arms if arm.fate == "finished"]
        return sorted(done, key=lambda arm: arm.value if self.space.less else -arm.value)


def search(
    space: Space,
    runs: Path,
    *,
    trials: int,
    budget: float = math.inf,
    on: str | None = None,
    show: Callable[[], Show] = Show,
    tell: Callable[[Searched, Arm], None] = lambda done, arm: None,
    progress: Progress = lambda what, done, total: None,
    train: Callable[..., Any] = stretch,
) -> Searched:
    """Try `trials` combinations, those of earlier calls among them, within `budget` seconds of all calls.

    on: as for `fanout.pool`. show: of an arm that trains here. tell: called as an arm goes on or ends. Raises
    UserError.
    """
    require_optuna()
    runs = runs.absolute()
    with ExitStack() as stack:
        study = stack.enter_context(opened(runs, space))
        made = _Search(space, runs, study, trials, budget, tell, progress, train)
        device = space.cells({axis.key: axis.at(0) for axis in space.axes})[0].recipe.train.device
        places = stack.enter_context(workers(on, trials, runs, device))
        try:
            made.drive(places, () if on else (show,))
        except KeyboardInterrupt:
            made.done.stopped = True
            places.shutdown(wait=True, cancel_futures=True)
    return made.done


@contextmanager
def opened(runs: Path, space: Space) -> Iterator[Study]:
    """The study of a search, held as its one writer. Raises UserError where another process has it."""
    import optuna
    from optuna.pruners import SuccessiveHalvingPruner
    from optuna.storages import JournalStorage
    from optuna.storages.journal import BaseJournalBackend, JournalFileBackend

    class Held:
        """The lock of the folder is enough."""

        def acquire(self) -> bool:
            return True

        def release(self) -> None:
            pass

    folder = runs / space.name
    with mendable(folder):
        folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with lock.held(folder):
        path = folder / STUDY
        with mendable(path):
            whole = path.read_bytes() if path.exists() else b""
            path.write_bytes(whole[: whole.rfind(b"\n") + 1])  # a kill may have torn the last line
            backend: BaseJournalBackend = JournalFileBackend(str(path), Held())  # type: ignore[arg-type]
        yield optuna.create_study(
            storage=JournalStorage(backend),
            study_name="search",
            direction="minimize" if space.less else "maximize",
            pruner=SuccessiveHalvingPruner(min_resource=1, reduction_factor=ETA),
            load_if_exists=True,
        )


def sampler(space: Space, number: int) -> BaseSampler:
    """What suggests the trial of a number. A fresh one for each: it has no state besides the study."""
    from optuna.samplers import RandomSampler, TPESampler

    seed = zlib.crc32(f"{space.seed} {number}".encode())
    return RandomSampler(seed) if space.sampler == "random" else TPESampler(seed=seed)


class _Search:
    """One call of `search`."""

    def __init__(
        self, space: Space, runs: Path, study: Study, trials: int, budget: float,
        tell: Callable[[Searched, Arm], None], progress: Progress, train: Callable[..., Any],
    ) -> None:  # fmt: skip
        self.space, self.runs, self.study, self.trials = space, runs, study, trials
        self.tell, self.progress, self.train = tell, progress, train
        self.spent, self.begun = float(study.user_attrs.get("seconds", 0)), time.monotonic()
        self.budget = budget
        self.done = Searched(space, [self._known(trial) for trial in study.get_trials(deepcopy=False)])

    @property
    def seconds(self) -> float:
        """Of all calls, up to now."""
        return self.spent + time.monotonic() - self.begun

    def drive(self, workers: Any, extra: tuple[Any, ...]) -> None:
        """Train arms until all have ended, the budget is over or Ctrl-C ends it."""
        begun = [arm for arm in self.done.arms if arm.fate == "begun"]
        busy: dict[Future[Any], Arm] = {}
        while True:
            while len(busy) < workers.size and (arm := self._next(begun)):
                halt = arm.rungs[self._passed(arm)]
                cells = [(cell.recipe, cell.name) for cell in arm.cells]
                left = self.budget - self.seconds
                busy[workers.submit(self.train, cells, self.runs, self.space.metric, halt, left, *extra)] = (
                    arm
                )
            self.progress("arms", sum(arm.fate != "begun" for arm in self.done.arms), self.trials)
            if not busy:
                return
            ended, _ = wait(busy, POLL, FIRST_COMPLETED)
            for future in sorted(ended, key=lambda future: busy[future].number):
                arm = busy.pop(future)
                if self._take(arm, *future.result()):
                    begun.insert(0, arm)
            self.study.set_user_attr("seconds", self.seconds)

    def _next(self, begun: list[Arm]) -> Arm | None:
        """The arm that is trained next: one that has begun, else a new one."""
        self.done.over = self.done.over or self.seconds >= self.budget
        if self.done.over or self.done.stopped or self.done.hopeless:
            return None
        while begun:
            arm = begun.pop(0)
            if self._judged(arm):  # it may have been cut off before
                return arm
        number = len(self.done.arms)
        if number >= self.trials:
            return None
        self.study.sampler = sampler(self.space, number)
        arm = self._arm(self.study.ask())
        self.done.arms.append(arm)
        return arm

    def _arm(self, trial: Any) -> Arm:
        tried = {axis.key: axis.suggest(trial) for axis in self.space.axes}
        cells = self.space.cells(tried)
        return Arm(trial.number, tried, cells, rungs(cells[0].recipe, self.space.metric), trial=trial)

    def _known(self, frozen: Any) -> Arm:
        """An arm of an earlier call."""
        from optuna.trial import Trial, TrialState

        if frozen.state == TrialState.RUNNING:
            arm = self._arm(Trial(self.study, frozen._trial_id))
        else:
            tried = {axis.key: axis.value(frozen.params[axis.key]) for axis in self.space.axes}
            cells = self.space.cells(tried)
            arm = Arm(frozen.number, tried, cells, rungs(cells[0].recipe, self.space.metric), trial=frozen)
            arm.fate = frozen.user_attrs.get("fate", "failed")
        arm.problem = frozen.user_attrs.get("problem", "")
        arm.course = [(step, value) for step, value in frozen.user_attrs.get("course", [])]
        return arm

    def _passed(self, arm: Arm) -> int:
        """How many rungs are behind an arm."""
        return sum(rung <= arm.steps for rung in arm.rungs)

    def _take(self, arm: Arm, outcome: str, problem: str, course: list[tuple[int, float]]) -> bool:
        """Note what a stretch of training came to; whether it goes on."""
        if outcome == "stopped":
            self.done.over, self.done.stopped = self.done.over or bool(problem), not problem
            return False
        if outcome == "failed":
            self._end(arm, "failed", problem)
            first = [other for other in self.done.arms[:ALIKE] if other.fate == "failed"]
            reasons = {other.problem.replace(other.cells[0].name, "") for other in first}
            self.done.hopeless = len(first) == ALIKE and len(reasons) == 1
            return False
        arm.course = course
        arm.trial.set_user_attr("course", course)
        return self._judged(arm)

    def _judged(self, arm: Arm) -> bool:
        """Whether an arm goes on from where it is."""
        passed = self._passed(arm)
        if not passed:
            return True
        if passed == len(arm.rungs) and math.isfinite(arm.value):
            self._end(arm, "finished")
            return False
        rung = ETA ** (passed - 1)  # as the pruner counts them
        if rung not in self.study.get_trials(deepcopy=False)[arm.number].intermediate_values:
            arm.trial.report(arm.value, rung)
        if not math.isfinite(arm.value):
            self._end(arm, "stopped early", f"{self.space.metric} is not finite")
        elif arm.trial.should_prune():
            self._end(arm, "stopped early", f"not among the best {100 / ETA:.0f} % at this step")
        elif line := self._outdone(arm):
            self._end(arm, "stopped early", line)
        return arm.fate == "begun"

    def _outdone(self, arm: Arm) -> str:
        """How an arm is forecast to end, where even the best of that is worse than another arm has ended."""
        ended = self.done.best
        if len(ended) < LEAST:
            return ""
        known = [Known(other.course, other.rungs[-1], other.settings(self.space.axes)) for other in ended]
        ahead = forecast(Known(arm.course, arm.rungs[-1], arm.settings(self.space.axes)), known)
        best = ended[0].value
        if ahead is None or (ahead.low <= best if self.space.less else ahead.high >= best):
            return ""
        return f"forecast to end at {ahead.text}; the best ended at {best:.4g}"

    def _end(self, arm: Arm, fate: str, problem: str = "") -> None:
        from optuna.trial import TrialState

        arm.fate, arm.problem = fate, problem
        arm.trial.set_user_attr("fate", fate)
        arm.trial.set_user_attr("problem", problem)
        if fate == "finished":
            self.study.tell(arm.trial, arm.value)
        else:
            self.study.tell(arm.trial, state=TrialState.FAIL if fate == "failed" else TrialState.PRUNED)
        self.tell(self.done, arm)
