"""Averaged weights of any relative length, made after training from the kept power-function tracks."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace

from torch import Tensor

from safelight.config import UserError
from safelight.engine.ema import fitted, reconstruct, tracks_of
from safelight.engine.state import State
from safelight.loading.model import AS_TRAINED, Model, average_words
from safelight.store import checkpoint, checkpoint_files, tracks
from safelight.store.directory import RunDirectory
from safelight.store.listing import ancestors
from safelight.types import Tell


def require_either(length: float | None, raw: bool) -> None:
    """Raises UserError where both weights as trained and an average are stated."""
    if raw and length is not None:
        raise UserError("raw weights are no average; state raw or the ema length, not both")


def weighted(model: Model, state: State, length: float | None, raw: bool, tell: Tell) -> Model:
    """The model with the weights as trained, an average of a length, or that of train.ema; see `averaged`."""
    if raw:
        nets = {name: deepcopy(state.nets[name]).eval() for name in model.nets}
        return replace(model, nets=nets, average=AS_TRAINED)
    return model if length is None else averaged(model, state, length, tell)


def averaged(model: Model, state: State, length: float, tell: Tell) -> Model:
    """The model with averages of a relative length in (0, 0.28), such as 0.08, put into its networks.

    They are fitted to the tracks of snapshots and checkpoints up to the step. state: whose averages the
    model's networks are. tell: takes a line about how far off they are. Raises UserError.
    """
    if not 0 < length < 0.28:
        raise UserError(f"ema length {length}: must lie between 0 and 0.28")
    averages = {model.step: state.averages.tracks(), **_history(model.directory, model.step)}
    snapshots = [(step, known, weights) for step, tensors in averages.items()
                 for known, weights in tracks_of(tensors).items()]  # fmt: skip
    if not snapshots:
        raise UserError(
            f"{model.directory.name}: keeps no averages to choose from; train with train.ema_lengths"
        )
    _, error = fitted([(step, known) for step, known, _ in snapshots], length, model.step)
    tell(
        f"average of relative length {length:g}: made from the tracks of {len(averages)} steps, "
        f"its weights of the steps off by {error:.1%}"
    )
    state.averages.adopt(reconstruct(snapshots, length, model.step))
    return replace(model, average=average_words(model.recipe, model.method, length, error))


def _history(directory: RunDirectory, before: int) -> dict[int, Mapping[str, Tensor]]:
    """Tracks by step, of checkpoints or else snapshots; a fork's also of the run that it came from.

    What is damaged is passed over: what is left tells how far off it is.
    """
    history: dict[int, Mapping[str, Tensor]] = {}
    for run in (directory, *ancestors(directory)):
        known, averages, parent = run.digests(), dict[int, Mapping[str, Tensor]](), run.info().parent
        for step in (step for step in tracks.steps(run.tracks) if step < before):
            with suppress(UserError):
                averages[step] = tracks.load(run.tracks, step)
        for step in (step for step in checkpoint_files.list_steps(run.path) if step < before):
            with suppress(UserError):
                path = checkpoint_files.directory(run.path, step)
                averages[step] = checkpoint.load(path, known)["averages"]
        history = {**averages, **history}
        before = min(before, parent.step + 1) if parent else before
    return history
