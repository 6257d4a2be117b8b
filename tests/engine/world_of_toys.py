"""The toy methods in several processes: what each process saw and drew, and the weights that came of it.

Called in the processes of `forks`; `test_distributed.py` compares what they leave behind.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import toys
from safelight.config import UserError
from safelight.engine import buckets, distributed
from safelight.engine.distributed import World, together
from safelight.engine.loop import Job, Signals, Stop, train
from safelight.engine.precision import autocast
from safelight.engine.state import State
from safelight.methods.textgan import TextGan, TextGanConfig
from safelight.networks import style_discriminator, style_generator
from safelight.randomness import RowDraw
from safelight.types import Batch, Condition, DataSpec, Draw, Method, Moment, Nets, Phase, Values

CPU = torch.device("cpu")
Book = dict[str, Tensor]


class PlainGan(toys.ToyGan):
    """Without batch norm, which sees only the rows of its own process."""

    def networks(self, spec: DataSpec) -> dict[str, nn.Module]:
        nets = super().networks(spec)
        nets["generator"][1] = nn.Identity()
        return nets


TOLD = DataSpec(toys.SPEC.shape, {"text": Condition("text", 5)})


class Means(nn.Module):
    """An encoder of images: five fixed linear features of unit length."""

    matrix: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("matrix", RowDraw(9, 0, "means", range(5)).normal("w", 16))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x.flatten(1).float() @ self.matrix.T, dim=1)


class Built:
    """The section of a network that is made by nothing but its class."""

    def build(self, spec: DataSpec) -> nn.Module:
        return Means()


def text_gan() -> TextGan:
    """Everything of a text GAN that looks at other rows: contrast, a queue of texts, mismatched pairs."""
    networks = {
        "generator": style_generator.StyleGeneratorConfig(latent=8, depth=2, base=32, largest=8),
        "discriminator": style_discriminator.StyleDiscriminatorConfig(base=32, largest=8),
        "encoder": Built(),
    }
    method = TextGan(TextGanConfig(queue=16, augment="ada", ada_kimg=1.0), networks)
    method.components = dict.fromkeys(method.components, 1.0)
    return method


class ToldStream(toys.ToyStream):
    """Batches with texts, of which a few rows have none."""

    def _part(self, step: int, rows: range) -> Batch:
        draw = RowDraw(7, step, "texts", rows)
        given = {"text": F.normalize(draw.normal("text", 5), dim=1)}
        return replace(super()._part(step, rows), given=given, present=draw.uniform("there") < 0.8)


METHODS: dict[str, Callable[[], Method]] = {
    "contrast": toys.ToyContrast,
    "plain gan": PlainGan,
    "gan": toys.ToyGan,
    "dropout": lambda: toys.ToyGan(dropout=0.3),
    "text gan": text_gan,
}


class Witness:
    """A `Draw` that writes down what it draws."""

    def __init__(self, draw: Draw, place: str, book: Book) -> None:
        self.draw, self.place, self.book = draw, place, book

    def normal(self, name: str, *shape: int) -> Tensor:
        return self._seen(name, self.draw.normal(name, *shape))

    def uniform(self, name: str, *shape: int, host: bool = False) -> Tensor:
        return self._seen(name, self.draw.uniform(name, *shape, host=host))

    def integers(self, name: str, high: int, *shape: int) -> Tensor:
        return self._seen(name, self.draw.integers(name, high, *shape))

    def _seen(self, name: str, values: Tensor) -> Tensor:
        self.book[self.place.format(name)] = values.clone()
        return values


def witnessed(method: Method, book: Book) -> Method:
    """The method, writing down its batches and draws as "phase/step/name/first row"."""

    def wrap(phase: Phase) -> Phase:
        def losses(nets: Nets, batch: Batch, moment: Moment) -> tuple[Values, Values]:
            place = f"{phase.name}/{moment.step:02d}/{{}}/{batch.rows.start:02d}"
            book[place.format("x")] = batch.x.clone()
            return phase.losses(nets, batch, replace(moment, draw=Witness(moment.draw, place, book)))

        return replace(phase, losses=losses)

    method.phases = tuple(wrap(phase) for phase in method.phases)
    return method


def job(method: Method, accumulate: int, world: World, precision: str = "fp32", stop_at: int = 0) -> Job:
    """A job of 12 steps; with `stop_at`, the second process asks for a stop when so many are done."""
    conditional = isinstance(method, TextGan)
    spec, stream = (TOLD, ToldStream()) if conditional else (toys.SPEC, toys.ToyStream())
    plan = toys.plan(method, accumulate=accumulate, spec=spec)
    signals = Signals()

    def boundary(agreed: Signals) -> None:
        if agreed.stop:
            raise Stop
        signals.stop = made.state.step == stop_at - 1 and world.rank == min(1, world.size - 1)

    state = State(method, spec, plan, CPU, "contiguous")
    made = Job(
        method,
        state,
        stream,
        plan_at=lambda step: plan,
        record=lambda record: None,
        boundary=boundary,
        signals=signals,
        world=world,
        autocast=autocast(CPU, precision),
    )
    return made


def weights(state: State) -> Book:
    return {f"{group}.{name}": tensor.detach().clone() for group, tensors in state.groups().items()
            for name, tensor in tensors.items()}  # fmt: skip


def saw_and_learned(name: str, accumulate: int, world: World) -> tuple[Book, Book]:
    """What this process saw and drew in 12 steps, and the state after them."""
    book: Book = {}
    made = job(witnessed(METHODS[name](), book), accumulate, world)
    train(made)
    return book, weights(made.state)


def resumed_and_whole(name: str, accumulate: int, precision: str, world: World) -> tuple[Book, Book]:
    """The state after 12 steps, stopped after 5 of them and loaded into new networks; and uninterrupted."""
    whole = job(METHODS[name](), accumulate, world, precision)
    train(whole)
    first = job(METHODS[name](), accumulate, world, precision, stop_at=5)
    try:
        train(first)
    except Stop:
        assert first.state.step == 5, "all processes stop after the same step"
    saved = {group: {key: tensor.clone() for key, tensor in tensors.items()}
             for group, tensors in first.state.groups().items()}  # fmt: skip
    second = job(METHODS[name](), accumulate, world, precision)
    second.state.load(saved, 5)
    train(second)
    return weights(second.state), weights(whole.state)


def leave_behind(folder: str, seen: list[tuple[str, int]], resumed: list[tuple[str, int, str]]) -> None:
    """Every case, in this process of several; files for the test to compare."""
    with together() as world:
        for name, accumulate in seen:
            book, state = saw_and_learned(name, accumulate, world)
            stem = f"{folder}/{name}-{world.size}-{accumulate}"
            safetensors.torch.save_file(book, f"{stem}-seen-{world.rank}.safetensors")
            safetensors.torch.save_file(state, f"{stem}-learned-{world.rank}.safetensors")
        for name, accumulate, precision in resumed:
            second, whole = resumed_and_whole(name, accumulate, precision, world)
            stem = f"{folder}/{name}-{accumulate}-{precision}-{world.rank}"
            safetensors.torch.save_file(second, f"{stem}-resumed.safetensors")
            safetensors.torch.save_file(whole, f"{stem}-whole.safetensors")


def in_buckets(folder: str, cases: list[tuple[str, int, str]]) -> None:
    """Each case with gradients in one bucket, summed after the backward pass, and in many, within it."""
    with together() as world:
        for name, accumulate, precision in cases:
            for title, size in (("flat", 1 << 40), ("buckets", 40)):
                buckets.SIZE = size
                made, within = job(METHODS[name](), accumulate, world, precision), []
                there = buckets.Buckets._there

                def noted(self: buckets.Buckets, parameter: Tensor, there=there, within=within) -> None:
                    there(self, parameter)
                    within.append(bool(self._begun) and any(self._missing))  # while others are to come

                with patch.object(buckets.Buckets, "_there", noted):
                    train(made)
                assert any(within) is (title == "buckets")
                stem = f"{folder}/{name}-{world.size}-{world.rank}-{title}.safetensors"
                safetensors.torch.save_file(weights(made.state), stem)


def sums(folder: str) -> None:
    """The sum of numbers whose order shows, alone and beside others."""
    with together() as world:
        values = RowDraw(3, world.rank, "sums", range(1)).normal("x", 1001)[0].exp() ** 4
        whole = [values.clone()]
        world.sum_(whole)
        parts = list(values.clone().split(77))
        for part in parts:
            world.sum_([part])
        assert torch.equal(torch.cat(parts), whole[0])
        safetensors.torch.save_file({"own": values, "sum": whole[0]}, f"{folder}/{world.rank}.safetensors")


def shared_values(folder: str) -> None:
    """Each process writes down what it got from the first one."""
    with together() as world:
        values = {"rank": world.rank, "words": "ж\n", "none": None, "many": list(range(5000))}
        Path(folder, f"{world.rank}.json").write_text(repr(world.share(values)), encoding="utf-8")


def fails_in(rank: int, how: str) -> None:
    """One process fails, the others go on to the next sum."""
    with together() as world:
        world.wait()
        if world.rank == rank:
            if how == "user":
                raise UserError("the disk is full")
            raise RuntimeError("a mistake in the program")
        world.sum_([torch.ones(3)])
        world.sum_([torch.ones(3)])


def fail_alike() -> None:
    """Every process finds the same mistake."""
    with together():
        raise UserError("batch size 50 does not divide")


def join_in_vain() -> None:
    """The second process never comes."""
    if os.environ["RANK"] == "0":
        distributed.JOINING = timedelta(seconds=1)
        with together():
            raise AssertionError("nobody is there")
