"""Evaluations while a run trains: their columns among its metrics, and the best step, which is pinned."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from safelight.engine.state import State
from safelight.evaluate.evaluation import Evaluation
from safelight.evaluate.judge import SampleJudge, evaluate, open_judge
from safelight.loading.dependencies import used
from safelight.loading.model import evaluated
from safelight.loading.prepare import Prepared
from safelight.recipe import Recipe
from safelight.store import checkpoint_files
from safelight.store.checkpoint_files import BEST, Pin
from safelight.store.directory import RunDirectory
from safelight.store.journal_writer import JournalWriter
from safelight.types import Tell


class Evaluator:
    """Evaluations by the [evaluate] section of a run that trains."""

    def __init__(self, directory: RunDirectory, ready: Prepared, arithmetic: str, tell: Tell) -> None:
        self._directory, self._ready, self._arithmetic, self._tell = directory, ready, arithmetic, tell
        self._judges: dict[tuple[str, int], SampleJudge] = {}

    def judge(self, recipe: Recipe) -> SampleJudge:
        """What [evaluate] measures with, opened once. Raises UserError."""
        name = (recipe.evaluate.features, recipe.evaluate.reference)
        if name not in self._judges:
            self._judges[name] = open_judge(
                *name,
                used(recipe, self._ready.products).data,
                self._ready.pack,
                self._ready.device,
                self._tell,
            )
        return self._judges[name]

    def evaluate(self, state: State, recipe: Recipe) -> Evaluation:
        """The samples of the present averages, measured."""
        settings, ready = recipe.evaluate, self._ready
        nets = evaluated(ready.method, state)
        model = ready.model(self._directory, recipe, nets, state.step, self._arithmetic)
        model = model.changed({"sample.steps": settings.steps} if settings.steps else {})
        sample, words = partial(model.generate_like, seed=settings.seed), model.sampling(settings.seed)
        return evaluate(
            partial(map, sample), words, ready.stream, self.judge(recipe), settings.n, step=state.step
        )


def columns(evaluation: Evaluation) -> dict[str, float]:
    """An evaluation as metrics of its step, by column."""
    values = {f"evaluate/{name}": result.value for name, result in evaluation.results.items()}
    floors = {f"floor/{name}": result.floor for name, result in evaluation.results.items()}
    return values | {name: value for name, value in floors.items() if value is not None}


def pin_if_best(run: Path, evaluation: Evaluation, writer: JournalWriter) -> bool:
    """Pin the step of an evaluation as the best if its Fréchet distance is below that of the pinned one.

    Images, noises and reference are the same at every step, so that the distances are comparable although
    there are few images. Where anything they depend on was changed, the comparison starts anew. A step
    that is pinned already is so again: the run was killed before it saved it.
    """
    name, result = next(iter(evaluation.results.items()))
    measured = evaluation.name.partition("-")[2]
    facts = {"metric": name, "value": result.value, "floor": result.floor, "measured": measured}
    best = checkpoint_files.read_pins(run).get(BEST)
    comparable = best is not None and best.facts["measured"] == facts["measured"]
    if best and comparable and best.step != evaluation.step and result.value >= best.facts["value"]:
        return False
    checkpoint_files.pin(run, BEST, Pin(evaluation.step, f"{name} {result.value:.4g}", facts), writer)
    return True
