"""A trained model at a step, with which samples, films, searches, evaluations and exports are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Final, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from torch import Tensor, nn

from safelight.assembly import multiple_of, require_any_size
from safelight.config import UserError
from safelight.data.source import Progress
from safelight.data.space import Space
from safelight.data.stream import Stream, examples
from safelight.engine.state import State
from safelight.loading.recorded import checkpoint_step, data_of, pixel_spec_of
from safelight.methods.diffusion import Diffusion, Guide
from safelight.recipe import GUIDE, Recipe
from safelight.samplers.generate import generate, generate_rows
from safelight.store.directory import RunDirectory, find
from safelight.store.listing import owner_of
from safelight.types import Autocast, Batch, DataSpec, Draw, Method, Nets, Values

Source = Literal["tape", "checkpoint", "replay"]
MATCHES: Final = "checkpoint matches the journal"
UNDAMAGED: Final = "recorded checksum matches"
AS_TRAINED: Final = "as trained"  # words for weights that are no average
SURE = ("exact", MATCHES, UNDAMAGED, "initial weights")


@dataclass(frozen=True)
class ReplayVerdict:
    """How sure it is that weights are those the run had.

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


@dataclass(eq=False)
class RunData:
    """The data of a run, opened when they are first needed, and the space between them and its networks."""

    directory: RunDirectory
    recipe: Recipe  # with the files of the encoders it names, see `dependencies.used`
    device: torch.device
    space: Space = field(default_factory=Space)
    opened: Stream | None = None
    other: Callable[[RunDirectory, int], Model] | None = None  # a run at a step; None while training
    size: tuple[int, int] | None = None  # (H, W) of images that differ from the run's
    _examples: dict[int, Batch] = field(default_factory=dict)
    _guides: dict[str, tuple[Guide, str]] = field(default_factory=dict)

    def stream(self, progress: Progress | None = None) -> Stream:
        """Batches of the data. Raises UserError where they are not what the run was trained on."""
        if self.opened is None:
            pack, seed = data_of(self.directory, self.recipe, progress), self.recipe.train.seed
            pack = next((part for part in pack.parts if part.images.shape[1:3] == self.size), pack)
            self.opened = Stream(pack, seed, 1, device=self.device, space=self.space)
        return self.opened

    def examples(self, count: int) -> Batch:
        """As many real items with conditions as there are, up to a number. Raises UserError as `stream`."""
        if count not in self._examples:
            self._examples[count] = examples(self.stream(), count)
        return self._examples[count]

    def guide(self, reference: str, model: Model) -> tuple[Guide, str]:
        """The weaker run of RUN, RUN@STEP or @STEP, to guide a model's samples by, and its whole name.

        Raises UserError.
        """
        if reference not in self._guides:
            directory, step = guide_place(self.directory, reference)
            assert self.other
            weak = self.other(directory, step)
            method, where = weak.method, f"sample.guide_by={reference}"
            if not issubclass(type(method), Diffusion):
                raise UserError(f"{where}: is no diffusion model; name a run of the same kind")
            if weak.spec.shape != model.spec.shape or _latents(weak) != _latents(model):
                raise UserError(f"{where}: has another image size or autoencoder; name another run")
            if any(model.spec.conditions.get(key) != value for key, value in weak.spec.conditions.items()):
                raise UserError(f"{where}: has other conditions; name a run of the same classes or masks")
            guide = Guide(cast(Diffusion, method), weak.nets["denoiser"])
            self._guides[reference] = guide, f"{directory.name}@{step}"
        return self._guides[reference]

    @cached_property
    def pixels(self) -> DataSpec:
        """The images and conditions of the data, whatever space the networks see them in."""
        pixels = pixel_spec_of(self.directory)
        return replace(pixels, shape=(pixels.shape[0], *self.size)) if self.size else pixels

    @property
    def buckets(self) -> list[tuple[int, int]]:
        """(H, W) of the buckets of the data; empty where there are none."""
        return [(height, width) for height, width, _ in self.directory.info().facts.data.get("buckets", ())]


@dataclass(frozen=True, eq=False)
class Model:
    """A run's networks at a step, and all that they are used with. Nothing here changes a weight."""

    method: Method  # which built these networks
    nets: Nets  # those that samples use, in evaluation mode
    how: BaseModel  # [sample]
    spec: DataSpec  # the data as the networks see them
    recipe: Recipe  # in force at the step
    data: RunData
    step: int = 0
    autocast: Autocast = nullcontext
    precision: str = "fp32"
    average: str = AS_TRAINED  # which weights these are, in words
    source: Source = "checkpoint"
    verdict: ReplayVerdict = ReplayVerdict(MATCHES, 0, 0, 0)

    @property
    def directory(self) -> RunDirectory:
        """The run."""
        return self.data.directory

    @property
    def space(self) -> Space:
        """Between the pixels of images and what the networks see."""
        return self.data.space

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.data.device

    @property
    def conditions(self) -> dict[str, Any]:
        """The conditions of the data as plain values."""
        return {name: asdict(condition) for name, condition in self.spec.conditions.items()}

    def changed(self, how: Mapping[str, Any] | None) -> Model:
        """The model with keys of [sample] changed: {"sample.guidance": 3}. Raises UserError."""
        if not how:
            return self
        sample, nets = self.recipe.sampling(how), dict(self.nets)
        if reference := getattr(sample, GUIDE, None):
            nets["guide"], name = self.data.guide(reference, self)
            sample = sample.model_copy(update={GUIDE: name})
        return replace(self, how=sample, nets=nets)

    def sized(self, size: tuple[int, int]) -> Model:
        """The model for images of another size (H, W), such as a bucket of its data.

        Conditions of real items are those of that bucket, where there is one. Raises UserError where a
        network is not fully convolutional, or the size does not divide.
        """
        if size == self.data.pixels.shape[1:]:
            return self
        require_any_size(self.recipe.networks, "--size")
        if self.space.codec and not self.space.codec.any_size:
            raise UserError(f"--size: the autoencoder {self.space.codec.name} is for images of one size")
        needed = multiple_of(self.recipe.networks) * self.space.factor
        if size[0] % needed or size[1] % needed:
            raise UserError(f"--size {size[0]}x{size[1]}: the networks need multiples of {needed}")
        data = replace(self.data, size=size, opened=None, _examples={})
        spec = replace(self.spec, shape=self.space.shape(data.pixels.shape))
        method = self.recipe.method()
        with torch.device("meta"):
            method.networks(spec)  # from which it knows the shape of latents
        return replace(self, method=method, spec=spec, data=data)

    @property
    def tree(self) -> dict[str, Any]:
        """The complete recipe as plain values, with [sample] as it is used; other tools know no guide."""
        sample = self.how.model_dump(mode="json", exclude_none=True)
        unguided = {"guidance": 1.0} if sample.pop(GUIDE, None) else {}
        return {**self.recipe.tree, "sample": sample | unguided}

    def require_images(self) -> None:
        """Raises UserError for an encoder."""
        if not getattr(self.method, "draws", True):
            raise UserError(f"{self.directory.name}: encoder runs cannot generate images")

    @torch.no_grad()
    def sample(self, latents: Tensor, given: Values, present: Tensor, draw: Draw) -> Tensor:
        """Images (b, C, H, W) of latents, in the space of the networks."""
        with self.autocast():
            return self.method.sample(self.nets, latents, given, present, draw, self.how).float()

    def generate(
        self, given: Values, present: Tensor, seed: int, first: int = 0, chunk: int | None = None
    ) -> NDArray[np.uint8]:
        """Images (n, H, W, C) under conditions of n rows, from number `first` on, `chunk` at once."""
        x = generate(
            self.method, self.nets, self.how, given, present, seed, self.autocast, first=first, chunk=chunk
        )
        return self.space.to_pixels(x)

    def generate_like(self, batch: Batch, seed: int) -> NDArray[np.uint8]:
        """Images (b, H, W, C) under a batch's conditions: its rows of the endless set of a seed."""
        x = generate_rows(
            self.method, self.nets, self.how, batch.rows, batch.given, batch.present, seed, self.autocast
        )
        return self.space.to_pixels(x)

    def sampling(self, seed: int) -> dict[str, str]:
        """How an evaluation draws its samples, in words."""
        settings = ", ".join(
            f"{name} {value}" for name, value in self.how.model_dump(exclude_none=True).items()
        )
        return {
            "sampling": settings or "one evaluation",
            "conditions": "of training images in a keyed order" if self.spec.conditions else "none",
            "seed": str(seed),
            "weights": self.average,
            "arithmetic": self.precision,
        }


def evaluated(method: Method, state: State) -> dict[str, nn.Module]:
    """The networks that samples use: averages and frozen ones, all in evaluation mode."""
    return {**{name: state.nets[name] for name in method.frozen}, **state.averages.networks}


def guide_place(directory: RunDirectory, reference: str) -> tuple[RunDirectory, int]:
    """The run and step that sample.guide_by of a run names. Raises UserError."""
    name, _, at = reference.partition("@")
    try:
        of = find(name, directory.path.parent) if name else directory
        step = int(at) if at.isdecimal() else checkpoint_step(of, at or None, lambda line: None)
        return owner_of(of, step), step
    except UserError as error:
        raise UserError(f"sample.guide_by={reference}: {error}") from error


def _latents(model: Model) -> tuple[object, ...]:
    """What latents mean; empty values for pixels."""
    return model.space.codec and model.space.codec.digest, model.space.shift, model.space.scale


def average_words(recipe: Recipe, method: Method, length: float | None = None, error: float = 0.0) -> str:
    """Which weights samples are drawn with.

    length: of a power-function average, relative; error: what its profile is off by.
    """
    free = [] if length else [name for name in method.ema if recipe.optim[name].kind == "schedule-free"]
    if free and len(free) == len(method.ema):
        return "average of schedule-free AdamW"
    if not method.ema or not (length or recipe.train.ema or free):
        return AS_TRAINED
    if length is not None:
        off = f", off by {error:.0%}" if error >= 0.005 else ""
        return f"average of relative length {length:g}{off}"
    return f"average with decay {recipe.train.ema:g}" + "".join(
        f", {name} of schedule-free AdamW" for name in free
    )


def state_of(directory: RunDirectory, recipe: Recipe, method: Method, spec: DataSpec, device: torch.device,
             memory_format: str = "contiguous", compile: str = "off") -> State:  # fmt: skip
    """The state that a run begins with, into which a checkpoint of it is loaded."""
    plan = recipe.plan(int(directory.info().facts.data["train"]))
    return State(method, spec, plan, device, memory_format, compile=compile)
