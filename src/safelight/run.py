"""A run as an object: its model at a step, samples of it, its measures and its metrics."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from safelight.config import UserError
from safelight.data.source import Progress
from safelight.evaluate.evaluation import Evaluation
from safelight.evaluate.judge import evaluate, open_judge
from safelight.explore.conditions import Conditions, conditions_of
from safelight.explore.elsewhere import elsewhere
from safelight.explore.grid import GridRequest, travelled
from safelight.explore.output import Output, drawn, fitting_chunk
from safelight.explore.samples import Samples, shared_seed
from safelight.explore.tiles import canvas_specs, paint
from safelight.export.networks import export_networks
from safelight.loading.model import Model, ReplayVerdict
from safelight.loading.recorded import checkpoint_step
from safelight.loading.replay import Replay
from safelight.recipe import Recipe
from safelight.render.sheet import Picture, panel
from safelight.render.sheet_file import encode_png
from safelight.report.run_report import run_html, write_report
from safelight.samplers.generate import chunks
from safelight.store import checkpoint, checkpoint_files, listing, metrics
from safelight.store.directory import RunDirectory, find
from safelight.store.listing import owner_of
from safelight.training.watch import picture
from safelight.types import Tell

if TYPE_CHECKING:
    from safelight.notebook import Widget


def live(directory: RunDirectory) -> Widget:
    """`notebook.live`. Raises UserError without anywidget."""
    try:
        from safelight import notebook
    except ModuleNotFoundError as error:
        if error.name not in ("anywidget", "traitlets"):
            raise
        raise UserError("a live view needs anywidget: pip install 'safelight[notebook]'") from error
    return notebook.live(directory)


@dataclass(frozen=True)
class Traversal(Picture):
    """A traversal: its grid of images; in a notebook with anywidget, the same latents under sliders."""

    model: Model | None = field(default=None, repr=False, compare=False)
    request: GridRequest | None = field(default=None, repr=False, compare=False)

    def _repr_mimebundle_(self, **wanted: object) -> dict[str, Any]:
        """The grid as PNG for readers without a kernel; where one can be asked, the sliders."""
        png = encode_png(panel(self.images, self.row_labels, self.column_labels, self.caption))
        rows, columns = self.images.shape[:2]
        shown = {"image/png": b64encode(png).decode(), "text/plain": f"{rows} x {columns} images"}
        if self.model is not None and self.request is not None and self.request.specimen is None:
            with suppress(ModuleNotFoundError):
                from safelight.notebook import moved_by_hand

                bundle, *_ = moved_by_hand(self.model, self.request)._repr_mimebundle_()
                shown = {**bundle, **shown}
        return shown


class Run:
    """A run opened for reading, at one of its checkpoints. Nothing here changes the run."""

    def __init__(
        self,
        directory: RunDirectory,
        step: int | str | None = None,
        ema_length: float | None = None,
        *,
        raw: bool = False,
        recompute: bool = False,
        tell: Tell = lambda line: None,
        warn: Tell | None = None,
    ) -> None:
        """Choose a checkpoint; its networks are read when they are first used. Raises UserError without one.

        step: of the checkpoint, or the name of a pinned one, such as "best". Default: the newest good one.
        ema_length: relative length of the average that samples use, such as 0.08, made from the kept
        power-function tracks. Default: the exponential average of train.ema.
        raw: samples use the weights as trained, without averaging.
        recompute: reach a step that has no checkpoint from the one before it; `verdict` says how sure it is.
        tell: takes lines about progress, and how far off an average of another length is.
        warn: takes a line where the newest checkpoint is damaged and an older one is used. Default: `tell`.
        """
        self.directory, self.name = directory, directory.name
        if not (recompute and isinstance(step, int)):
            step = checkpoint_step(directory, step, warn or tell)
        self.step, self.ema_length, self.raw = step, ema_length, raw
        self._replay, self._tell = Replay(directory, tell, warn or tell), tell
        if ema_length is not None:
            self.model  # noqa: B018 (an average that cannot be made is refused here)

    @cached_property
    def model(self) -> Model:
        """The run's networks at its step. Raises UserError where they cannot be read or recomputed."""
        return self._replay.weighted(self.step, self.ema_length, self.raw)

    @property
    def verdict(self) -> ReplayVerdict:
        """Whether the weights are proved to be those that the run had at its step."""
        return self.model.verdict

    @property
    def digest(self) -> str:
        """The digest of the state at the step, as checkpoints have it."""
        if self.verdict.start == self.step > 0:
            return checkpoint_files.digest_of(checkpoint_files.directory(self.directory.path, self.step))
        return checkpoint.digest(self._replay.state.groups())

    @property
    def recipe(self) -> Recipe:
        """The recipe, with the settings in force at the step."""
        return self.model.recipe

    @classmethod
    def open(
        cls,
        run: str | Path,
        runs: Path,
        step: int | str | None = None,
        ema_length: float | None = None,
        *,
        raw: bool = False,
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
        return cls(directory, step, ema_length, raw=raw, recompute=recompute, tell=tell, warn=warn)

    def at(
        self,
        step: int,
        ema_length: float | None = None,
        tell: Tell = lambda line: None,
        *,
        raw: bool = False,
    ) -> Run:
        """This run at any step, recomputed in memory where no checkpoint is kept: `run.at(16500).sample(9)`.

        `verdict` of what is returned says whether the weights are proved to be those the run had. A step
        before a fork's first is one of the run it came from. Raises UserError.
        """
        run = Run(owner_of(self.directory, step), step, ema_length, raw=raw, recompute=True, tell=tell)
        run._replay.go_to(step)
        return run

    def sample(
        self,
        count: int,
        *,
        seed: int = 0,
        how: Mapping[str, Any] | None = None,
        conditions: Mapping[str, Any] | None = None,
        canvas: tuple[int, int] | None = None,
        same_noise_as: str | Path | None = None,
        size: tuple[int, int] | None = None,
        **named: str | float,
    ) -> Samples:
        """Samples from the averaged weights: `run.sample(16, label=3, how={"sample.guidance": 3})`.

        named: conditions, see `generate.conditions`. A mask is a file; text is words, or a file of features.
        Those not mentioned are taken from held-out items. conditions: the same, for names that are no words
        of Python. how: keys of [sample] to change. canvas: (height, width) larger than the images trained on,
        painted in overlapping tiles; its mask is read at that size. same_noise_as: a run from the noises of
        whose sheets samples start, whatever the seed.
        size: (height, width) of the images, a bucket of the data or any that fully convolutional networks
        take. Raises UserError.
        """
        wishes = {**(conditions or {}), **named}
        model, seed = self._sampled(how, wishes, size), self._seed(seed, same_noise_as)
        if canvas is None:
            return drawn(model, Conditions(model, wishes), range(count), seed)
        if size:
            raise UserError("canvas: paints in tiles, size in one piece; state one of them")
        sizes = canvas_specs(model.data.pixels, model.space, canvas)
        if "mask" in model.spec.conditions and "mask" not in wishes:
            raise UserError("canvas: say which mask it is to follow, mask=FILE.png, or mask=none")
        given, present = conditions_of(model, wishes, count, sizes)
        images = paint(model, given, present, seed, sizes[1])
        arrays = {name: value.cpu().numpy() for name, value in given.items()}
        return Samples(
            images,
            arrays,
            present.cpu().numpy(),
            model.spec,
            model.how.model_dump(),
            background=model.recipe.data.background,
        )

    def stream(
        self,
        count: int,
        *,
        chunk: int | None = None,
        first: int = 0,
        seed: int = 0,
        how: Mapping[str, Any] | None = None,
        conditions: Mapping[str, Any] | None = None,
        same_noise_as: str | Path | None = None,
        size: tuple[int, int] | None = None,
        **named: str | float,
    ) -> Iterator[Samples]:
        """Samples from number `first` up to `count`, `chunk` at a time, none of which is held.

        chunk: as many as the memory holds, 250 at most, by default. A sample depends on its number and the
        seed; how many are drawn at once may change its last bits, not what it shows. The rest as of `sample`,
        of whose `count` samples these are the same. Raises UserError.
        """
        wishes = {**(conditions or {}), **named}
        model = self._sampled(how, wishes, size)
        stated = Conditions(model, wishes)
        seed = self._seed(seed, same_noise_as)
        if chunk is None:
            chunk = fitting_chunk(model, *stated.of(range(1)))
        return (drawn(model, stated, rows, seed, chunk) for rows in chunks(count, chunk, first))

    def _sampled(
        self, how: Mapping[str, Any] | None, stated: Mapping[str, Any], size: tuple[int, int] | None
    ) -> Model:
        """The model that samples are drawn with. Raises UserError."""
        model = self.model.changed(how)
        model.require_images()
        if size is None:
            return model
        model = model.sized(size)
        lacks = "mask" in model.spec.conditions and "mask" not in stated
        if lacks and model.data.size not in (None, *model.data.buckets):
            known = ", ".join(f"{height}x{width}" for height, width in model.data.buckets) or "one size"
            raise UserError(f"size: the data are of {known}; say which mask to follow, mask=FILE.png or none")
        return model

    def _seed(self, seed: int, same_noise_as: str | Path | None) -> int:
        if same_noise_as is None:
            return seed
        return shared_seed(self.directory, find(same_noise_as, self.directory.path.parent))

    def save_samples(
        self,
        out: str | Path,
        count: int,
        *,
        chunk: int | None = None,
        seed: int = 0,
        how: Mapping[str, Any] | None = None,
        conditions: Mapping[str, Any] | None = None,
        same_noise_as: str | Path | None = None,
        size: tuple[int, int] | None = None,
        tell: Tell = lambda line: None,
        progress: Progress = lambda what, done, total: None,
        **named: str | float,
    ) -> Path:
        """Write samples to a new folder or .tar as they are drawn, see `explore.output`; returns it.

        Cut off, the same call goes on where it stopped. tell: takes an estimate of a long request. The rest
        as of `stream`. Raises UserError.
        """
        stated = {**(conditions or {}), **named}
        model = self._sampled(how, stated, size)
        seed = self._seed(seed, same_noise_as)
        facts = {
            "run": self.directory.info().id,
            "step": self.step,
            "digest": self.digest,
            **model.sampling(seed),
            "conditions": {name: str(value) for name, value in stated.items()},
            "device": model.device.type,
            "size": size,
        }
        output = Output(Path(out), facts, chunk)
        if output.facts["chunk"] is None:
            output.facts["chunk"] = fitting_chunk(model, *Conditions(model, stated).of(range(1)))
        if output.rows > count:
            raise UserError(f"{output.part}: has {output.rows:,} samples; ask for as many, or delete it")
        with output.open():
            begun, first = time.monotonic(), output.rows
            samples = self.stream(
                count,
                chunk=output.facts["chunk"],
                first=first,
                seed=seed,
                how=how,
                conditions=stated,
                size=size,
            )
            for part in samples:
                written = output.add(part)
                if output.rows == first + len(part.images):
                    output.estimate(count, time.monotonic() - begun, written, tell)
                progress("samples", output.rows, count)
        return output.finish()

    def evaluate(
        self,
        n: int = 5000,
        features: str | None = None,
        *,
        seed: int = 0,
        reference: int = 10_000,
        how: Mapping[str, Any] | None = None,
        on: str | None = None,
        tell: Tell = lambda line: None,
        progress: Progress | None = None,
    ) -> Evaluation:
        """Measure n samples against training images: every metric with its floor and what it rests on.

        features: "classifier", "efficientnet", "inception" or the path of a TorchScript file. Default: the
        classifier where the data has classes, efficientnet otherwise. reference: training images compared
        with, at most. how: keys of [sample] to change. on: where samples are drawn at once, such as
        "local:4", see `fanout.pool`. tell: takes a line, before a program from a file is run. Raises
        UserError.
        """
        model = self.model.changed(how)
        stream = model.data.stream(progress)
        judge = open_judge(
            features, reference, model.data.recipe.data, stream.pack, model.device, tell, progress
        )
        measured = partial(evaluate, step=self.step, weights=self.digest, progress=progress)
        if not on:
            sample = partial(model.generate_like, seed=seed)
            return measured(partial(map, sample), model.sampling(seed), stream, judge, n)
        with elsewhere(self.directory, on, self.step, self.ema_length, self.raw, how, seed, n) as draw:
            return measured(draw, model.sampling(seed), stream, judge, n)

    def traverse(
        self,
        attributes: Sequence[str] = (),
        components: Sequence[int] = (),
        directions: Sequence[str] = (),
        *,
        specimen: str | None = None,
        rows: int = 6,
        columns: int | None = None,
        seed: int = 0,
        how: Mapping[str, Any] | None = None,
    ) -> Traversal:
        """A grid of one latent a row, along attributes such as "hair=0..1", components, or directions.

        A notebook shows it as sliders. Several attributes are combined, `columns` places on each; by default
        7, or 2 of several. Components, counted from 1, are of the latents
        of up to 1,000 held-out images. Directions such as "pca:1" or "sefa:2=-3..3" are what the generator
        itself suggests; they may start at a specimen, by its id. Raises UserError.
        """
        columns = columns or (7 if len(attributes) < 2 else 2)
        request = GridRequest(attributes, components, directions, rows, columns, seed, specimen)
        model = self.model.changed(how)
        return Traversal(
            **vars(picture(travelled(model, request), model.space)), model=model, request=request
        )

    def live(self) -> Widget:
        """Curves and the newest sheet, kept up to date while the run trains; shown by a notebook.

        Raises UserError without the extra `notebook`.
        """
        return live(self.directory)

    def export(self, form: str, out: str | Path, how: Mapping[str, Any] | None = None) -> list[str]:
        """Write the networks for other tools into a new folder: "diffusers", "safetensors", "onnx" or "lora".

        how: keys of [sample] to change. Returns a line about each file. Raises UserError.
        """
        return export_networks(self.model.changed(how), form, Path(out))

    def report(self) -> Path:
        """Write report.md and report.html into the run's folder; returns the path of the latter."""
        return write_report(self.directory)

    def metrics(self, *names: str) -> dict[str, NDArray[Any]]:
        """Recorded values by column, all of them by default; "loss" stands for the raw components."""
        columns = metrics.read(self.directory.path)
        if not names:
            return columns
        return {
            name: column
            for name, column in columns.items()
            if name in {"step", *names} or ("loss" in names and name.startswith("raw/"))
        }

    def __repr__(self) -> str:
        now = listing.summary(self.directory)
        return f"<Run {self.name}: at step {self.step:,} of {now.step:,} / {now.steps:,}, {now.status}>"

    def _repr_html_(self) -> str:
        """How a notebook shows a run: one line, its latest sheet, its loss."""
        return run_html(self.directory)
