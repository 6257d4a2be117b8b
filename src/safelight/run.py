"""A run as an object: its weights at a checkpoint, samples from them, its metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from safelight.config import UserError, nearest
from safelight.data.pack import Pack
from safelight.data.source import Progress
from safelight.data.space import Space
from safelight.data.stream import Stream, examples
from safelight.engine.ema import fitted, reconstruct, tracks_of
from safelight.evaluate.evaluation import Evaluation
from safelight.evaluate.judge import Generator, average_told, evaluate, open_judge
from safelight.explore import traverse
from safelight.explore.conditions import wanted_of
from safelight.explore.grid import GridRequest, travelled
from safelight.explore.samples import Samples
from safelight.explore.tiles import canvas_specs, paint
from safelight.export.networks import export_networks
from safelight.loading.dependencies import KEY as CODEC
from safelight.loading.dependencies import open_space, products_of, used
from safelight.loading.model import Trained, evaluated
from safelight.loading.recorded import data_of, pixel_spec_of
from safelight.loading.replay import Replay
from safelight.recipe import Recipe
from safelight.render.sheet import Picture
from safelight.report.run_report import run_html, write_report
from safelight.samplers.generate import conditions, generate
from safelight.store import checkpoint, checkpoint_files, metrics, tracks
from safelight.store.directory import RunDirectory, find
from safelight.store.listing import ancestors, owner_of
from safelight.training.watch import picture
from safelight.types import Batch, Tell


class Run:
    """A run opened for reading, at one of its checkpoints. Nothing here changes the run."""

    def __init__(
        self,
        directory: RunDirectory,
        step: int | str | None = None,
        ema_length: float | None = None,
        *,
        recompute: bool = False,
        tell: Tell = lambda line: None,
        warn: Tell | None = None,
    ) -> None:
        """Read a checkpoint. Raises UserError where there is none.

        step: of the checkpoint, or the name of a pinned one, such as "best"; the newest good by default.
        ema_length: relative length of the average that samples use, such as 0.08, made from the kept
        power-function tracks; the exponential average of train.ema by default. How far off it is, is told.
        recompute: reach a step that has no checkpoint from the one before it; `verdict` says how sure it is.
        warn: takes a line where the newest checkpoint is damaged and an older one is used; `tell` by default.
        """
        self.directory = directory
        self.name = directory.name
        replay = Replay(directory, tell)
        self.step = step if recompute and isinstance(step, int) else self._step(step, warn or tell)
        self.verdict = replay.go_to(self.step)
        self.recipe: Recipe = replay.in_force.recipe_at(self.step)
        self.spec, self.pixels = replay.spec, pixel_spec_of(directory)
        self.device = replay.device
        self.autocast = replay.autocast
        self.method = replay.method
        self.state = replay.state
        self._digest = "" if self.verdict.start == self.step else checkpoint.digest(self.state.groups())
        self.average = average_told(self.recipe, self.method)
        if ema_length is not None:
            self._adopt(ema_length, tell)
        self.nets = evaluated(self.method, self.state)

    @classmethod
    def open(
        cls,
        run: str | Path,
        runs: Path,
        step: int | str | None = None,
        ema_length: float | None = None,
        *,
        recompute: bool = False,
        tell: Tell = lambda line: None,
        warn: Tell | None = None,
    ) -> Run:
        """The run of a name or path. Raises UserError with the nearest name if there is none.

        recompute, warn: as for `Run`; a step before a fork's first one is then one of the run it came from.
        """
        directory = find(run, runs)
        if recompute and isinstance(step, int):
            directory = owner_of(directory, step)
        return cls(directory, step, ema_length, recompute=recompute, tell=tell, warn=warn)

    def at(self, step: int, ema_length: float | None = None, tell: Tell = lambda line: None) -> Run:
        """This run at any step, recomputed in memory where no checkpoint is kept: `run.at(16500).sample(9)`.

        `verdict` of what is returned says whether the weights are proved to be those the run had. A step
        before a fork's first is one of the run it came from. Raises UserError.
        """
        return Run(owner_of(self.directory, step), step, ema_length, recompute=True, tell=tell)

    def sample(
        self,
        count: int,
        *,
        seed: int = 0,
        how: Mapping[str, Any] | None = None,
        asked: Mapping[str, Any] | None = None,
        canvas: tuple[int, int] | None = None,
        **wanted: str | float,
    ) -> Samples:
        """Samples from the averaged weights: `run.sample(16, label=3, how={"sample.guidance": 3})`.

        wanted: conditions by name; see `generate.conditions`. A mask is a file; text is in words, or a file
        of features. What is not mentioned is that of held-out items. asked: the same, for names that are no
        words of Python. how: keys of [sample] to change. canvas: (height, width) larger than the images
        trained on, painted in overlapping tiles; its mask is read at that size. Raises UserError.
        """
        changed = self.recipe.with_changes(how or {}).sample
        pixels, spec = canvas_specs(self.pixels, self.space, canvas) if canvas else (self.pixels, self.spec)
        said = {**(asked or {}), **wanted}
        values = {
            name: wanted_of(name, str(value), self.spec, pixels, self.space.factor, lambda: self._opened)
            for name, value in said.items()
        }
        if canvas and "mask" in spec.conditions and "mask" not in values:
            raise UserError("canvas: say which mask it is to follow, mask=FILE.png, or mask=none")
        given, present = conditions(spec, values, count, self.device, lambda: self._examples(count))
        asked_for = (changed, given, present, seed)
        if canvas:
            images = paint(self.method, self.nets, *asked_for, self.spec, spec, self.space, self.autocast)
        else:
            x = generate(self.method, self.nets, *asked_for, self.autocast)
            images = self.space.to_pixels(x)
        return Samples(
            images,
            {name: _array(value) for name, value in given.items()},
            _array(present),
            self.spec,
            changed.model_dump(),
        )

    def evaluate(
        self,
        n: int = 5000,
        features: str | None = None,
        *,
        seed: int = 0,
        reference: int = 10_000,
        how: Mapping[str, Any] | None = None,
        tell: Tell = lambda line: None,
        progress: Progress | None = None,
    ) -> Evaluation:
        """Measure n samples against training images: every metric with its floor and what it rests on.

        features: "classifier", "efficientnet", "inception" or the path of a TorchScript file; by default the
        classifier where the data has classes, efficientnet otherwise. reference: training images compared
        with, at most. how: keys of [sample] to change. tell: takes a line, before a program from a file is
        run. Raises UserError.
        """
        changed = self.recipe.with_changes(how or {}).sample
        facts = self.directory.info().facts
        pack = self._data(progress)
        judge = open_judge(features, reference, self._opened, pack, self.device, tell, progress)
        generator = Generator(
            self.method,
            self.nets,
            changed,
            self.average,
            self.autocast,
            str(facts.execution["precision"]),
            self.device,
        )
        stream = Stream(pack, self.recipe.train.seed, 1, device=self.device, space=self.space)
        digest = self._digest or checkpoint_files.digest_of(
            checkpoint_files.directory(self.directory.path, self.step)
        )
        return evaluate(generator, stream, judge, n, seed, step=self.step, weights=digest, progress=progress)

    def traverse(
        self,
        attributes: Sequence[str] = (),
        components: Sequence[int] = (),
        directions: Sequence[str] = (),
        *,
        specimen: str | None = None,
        rows: int = 6,
        columns: int = 7,
        seed: int = 0,
        how: Mapping[str, Any] | None = None,
    ) -> Picture:
        """A grid of one latent a row, along sliders such as "hair=0..1", components, or directions.

        Several sliders are combined, `columns` places on each. Components, counted from 1, are of the latents
        of up to 1,000 held-out images. Directions such as "pca:1" or "sefa:2=-3..3" are what the generator
        itself suggests; they may start at a specimen, by its id. Raises UserError.
        """
        model = traverse.Model(
            self.method, self.nets, self.recipe.with_changes(how or {}).sample, self.spec, self.autocast
        )
        asked = GridRequest(attributes, components, directions, rows, columns, seed, specimen)
        stream = Stream(self._data(), self.recipe.train.seed, 1, device=self.device, space=self.space)
        return picture(travelled(model, stream, self.directory, asked), self.space)

    def export(self, form: str, out: str | Path) -> list[str]:
        """Write the networks for other tools into a new folder: "diffusers", "safetensors" or "onnx".

        Returns what was found out, a line each. Raises UserError.
        """
        product = products_of(self.directory).get(CODEC)
        trained = Trained(
            self.name, self.step, self.recipe, self.method, self.nets, self.spec, self.space, product
        )
        return export_networks(trained, form, Path(out))

    def report(self) -> Path:
        """Write report.md and report.html into the run's folder; returns the path of the latter."""
        return write_report(self.directory)

    def metrics(self, *names: str) -> dict[str, NDArray[Any]]:
        """Recorded values by column, all of them by default; "loss" stands for the raw components."""
        columns = metrics.read(self.directory.path)
        if not names:
            return columns
        wanted = {name for name in columns if name in names or ("loss" in names and name.startswith("raw/"))}
        return {name: column for name, column in columns.items() if name in wanted or name == "step"}

    def _repr_html_(self) -> str:
        """How a notebook shows a run: one line, its latest sheet, its loss."""
        return run_html(self.directory)

    @cached_property
    def space(self) -> Space:
        """Between the pixels of samples and what the networks see; opens the autoencoder of latents."""
        return open_space(self.directory, self.device)

    @cached_property
    def _opened(self) -> Recipe:
        """The recipe with the files of the encoders it names."""
        return used(self.recipe, products_of(self.directory))

    def _data(self, progress: Progress | None = None) -> Pack:
        """The data of the run. Raises UserError where they are not what it was trained on."""
        return data_of(self.directory, self._opened, progress)

    def _examples(self, count: int) -> Batch:
        """Held-out items, for their conditions; training items where none is held out."""
        stream = Stream(self._data(), self.recipe.train.seed, 1, device=self.device, space=self.space)
        return examples(stream, count)

    def _adopt(self, length: float, tell: Tell) -> None:
        """Averaged weights of a relative length, from snapshots and checkpoints up to this step."""
        if not 0 < length < 0.28:
            raise UserError(f"ema length {length}: must lie between 0 and 0.28")
        averages = {self.step: self.state.averages.tracks(), **_history(self.directory, self.step)}
        snapshots = [(step, own, weights) for step, tensors in averages.items()
                     for own, weights in tracks_of(tensors).items()]  # fmt: skip
        if not snapshots:
            raise UserError(f"{self.name}: keeps no averages to choose from; train with train.ema_lengths")
        _, error = fitted([(step, own) for step, own, _ in snapshots], length, self.step)
        self.average = average_told(self.recipe, self.method, length, error)
        tell(
            f"average of relative length {length:g}: made from the tracks of {len(averages)} steps, "
            f"its weights of the steps off by {error:.1%}"
        )
        self.state.averages.adopt(reconstruct(snapshots, length, self.step))

    def _step(self, step: int | str | None, warn: Tell) -> int:
        if step is None:
            bad: list[str] = []
            saved = checkpoint_files.newest_good(
                self.directory.path, self.directory.digests(), tell=bad.append
            )
            for line in bad:
                warn(f"{line}; goes on with step {saved.step}" if saved else line)
            if saved is None:
                raise UserError(f"{self.name}: has no checkpoint yet; train it further first")
            return saved.step
        if isinstance(step, str):
            named = checkpoint_files.read_pins(self.directory.path)
            if step not in named:
                raise UserError(f"{self.name}: no checkpoint has the name {step!r}{nearest(step, named)}")
            step = named[step].step
        steps = checkpoint_files.list_steps(self.directory.path)
        if step not in steps:
            raise UserError(
                f"{self.name}: has no checkpoint of step {step} (kept: {', '.join(map(str, steps))}); "
                "run.at(step) recomputes it"
            )
        return step


def _history(directory: RunDirectory, before: int) -> dict[int, Mapping[str, Tensor]]:
    """Tracks by step: those of checkpoints, else snapshots, a fork's also of the run that it came from.

    What is damaged is passed over: what is left tells how far off it is.
    """
    found: dict[int, Mapping[str, Tensor]] = {}
    for one in (directory, *ancestors(directory)):
        known, own, parent = one.digests(), dict[int, Mapping[str, Tensor]](), one.info().parent
        for step in (step for step in tracks.steps(one.tracks) if step < before):
            with suppress(UserError):
                own[step] = tracks.load(one.tracks, step)
        for step in (step for step in checkpoint_files.list_steps(one.path) if step < before):
            with suppress(UserError):
                own[step] = checkpoint.load(checkpoint_files.directory(one.path, step), known)["averages"]
        found = {**own, **found}
        before = min(before, parent.step + 1) if parent else before
    return found


def _array(values: Tensor) -> NDArray[Any]:
    return values.cpu().numpy()
