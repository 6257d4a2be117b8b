"""Images from a method and its networks: the same seed and row give the same image, in any company."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from pydantic import BaseModel
from torch import Tensor

from safelight.config import UserError, nearest
from safelight.randomness import RowDraw
from safelight.types import Batch, Condition, DataSpec, Method, Nets, Values


class Rows(Protocol):
    """Values by row, such as a tensor, or masks that are read from files when they are used."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Tensor, /) -> Tensor: ...


ConditionValue = str | Rows  # what a condition is asked to be: in words, or rows of values

LISTED = 12  # classes that a refusal names
CHUNK = 250  # images generated at once


def conditions(
    spec: DataSpec,
    requested: Mapping[str, ConditionValue],
    count: int,
    device: torch.device,
    examples: Callable[[], Batch] | None = None,
    first: int = 0,
) -> tuple[dict[str, Tensor], Tensor]:
    """The conditions of `count` samples, from number `first` on: given, and present (count,).

    requested: by condition. label: "3" or "Sneaker" for every sample, or "each" for the classes in turn, as
    where data have labels alone and nothing is said. attributes: "0.1,0.9", or one by its own name:
    {"hair": "0.5"}. mask, text: rows (n, ...), in turn. "none" for any of them makes the samples
    unconditional, as a sample has all its conditions or none. What is not mentioned is that of real items.
    examples: gives those, when they are needed, that of sample `first` first; items without conditions are
    left out. Raises UserError.
    """
    require_known(spec, requested)
    if any(isinstance(value, str) and value == "none" for value in requested.values()):
        nothing = {name: _nothing(condition, spec, count) for name, condition in spec.conditions.items()}
        return _on(device, nothing), torch.zeros(count, dtype=torch.bool, device=device)
    if set(spec.conditions) == {"label"}:
        requested = {"label": "each", **requested}
    real: Batch | None = None

    def example(name: str) -> Tensor:
        nonlocal real
        if real is None and examples is not None:
            real = examples()
        rows = real.given[name][real.present] if real else ()
        if not len(rows):
            raise UserError(
                f"condition {name}: no real item to take it from; state it, such as "
                f"{_such_as(spec.conditions[name])}"
            )
        return rows[torch.arange(count) % len(rows)]

    given = {name: _condition_rows(condition, name, requested, range(first, first + count), example)
             for name, condition in spec.conditions.items()}  # fmt: skip
    return _on(device, given), torch.full((count,), bool(given), device=device)


def require_known(
    spec: DataSpec, requested: Mapping[str, ConditionValue], limits: tuple[float, float] | None = None
) -> None:
    """Raises UserError for a condition that the data does not have, and for values that it does not have.

    limits: of attributes. It needs no networks.
    """
    attributes = spec.conditions["attributes"].names if "attributes" in spec.conditions else ()
    known = (*spec.conditions, *attributes)
    low, high = limits or (-math.inf, math.inf)
    for name, value in requested.items():
        if name not in known:
            raise UserError(f"condition {name}: the data has no such condition{nearest(name, known)}")
        if not isinstance(value, str) or value == "none":
            continue
        condition = spec.conditions.get(name)
        if condition and condition.kind == "label":
            _labels(condition, name, value, range(1))
        elif condition is None or condition.kind == "attributes":
            numbers = _numbers(condition, name, value).tolist() if condition else [_number(name, value)]
            if not all(low <= number <= high for number in numbers):
                raise UserError(f"condition {name}={value}: attributes are between {low:g} and {high:g}")


def _condition_rows(
    condition: Condition,
    name: str,
    requested: Mapping[str, ConditionValue],
    samples: range,
    example: Callable[[str], Tensor],
) -> Tensor:
    """One condition of some samples, (count, ...)."""
    value, count = requested.get(name), len(samples)
    if value is not None and not isinstance(value, str):
        return value[torch.arange(samples.start, samples.stop) % len(value)]
    if condition.kind == "label":
        return example(name) if value is None else _labels(condition, name, value, samples)
    if condition.kind == "attributes":
        titles = {place: title for place, title in enumerate(condition.names) if title in requested}
        if value is not None:
            rows = _numbers(condition, name, value).repeat(count, 1)
        else:
            rows = torch.zeros(count, len(titles)) if len(titles) == condition.size else example(name).clone()
        for place, title in titles.items():
            rows[:, place] = _number(title, str(requested[title]))
        return rows
    if value is None:
        return example(name)
    raise UserError(f"condition {name}={value}: expected {_such_as(condition)}, or {name}=none")


def _labels(condition: Condition, name: str, value: str, samples: range) -> Tensor:
    if value == "each":
        return torch.arange(samples.start, samples.stop) % condition.size
    if value in condition.names:
        return torch.full((len(samples),), condition.names.index(value))
    numbered = any(title.isdecimal() for title in condition.names)  # then a number is a name, or none
    if value.isascii() and value.isdecimal() and not numbered and int(value) < condition.size:
        return torch.full((len(samples),), int(value))
    names = condition.names or tuple(map(str, range(condition.size)))
    if names == tuple(map(str, range(len(names)))):
        raise UserError(f"condition {name}={value}: classes are 0 to {names[-1]}")
    listed = ", ".join([*names[:LISTED], *(["..."] if len(names) > LISTED else [])])
    near = nearest(value, [*names, "each", "none"])
    hint = near if "did you mean" in near else ""
    raise UserError(f"condition {name}={value}: classes are {listed}{hint}")


def _numbers(condition: Condition, name: str, value: str) -> Tensor:
    """Attributes (A,) from "0.1,0.9"."""
    numbers = [_number(name, part) for part in value.split(",")]
    if len(numbers) != condition.size:
        names = ", ".join(condition.names)
        raise UserError(f"condition {name}={value}: expected {condition.size} numbers, of {names}")
    return torch.tensor(numbers)


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"condition {name}={text}: expected a number, such as {name}=0.5")
    return value


def _nothing(condition: Condition, spec: DataSpec, count: int) -> Tensor:
    """A condition that no sample has."""
    if condition.kind == "label":
        return torch.zeros(count, dtype=torch.int64)
    return torch.zeros(count, condition.size, *(spec.shape[1:] if condition.kind == "mask" else ()))


def _such_as(condition: Condition) -> str:
    if condition.kind == "attributes":
        return f"{condition.names[0]}=0.5" if condition.names else "attributes=0.5,..."
    return {"label": "label=0", "mask": "mask=FILE.png", "text": "text=WORDS"}[condition.kind]


def _on(device: torch.device, given: Values) -> dict[str, Tensor]:
    return {name: value.to(device) for name, value in given.items()}


def generate(
    method: Method,
    nets: Nets,
    how: BaseModel,
    given: Values,
    present: Tensor,
    seed: int,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    progress: Callable[[int], None] = lambda count: None,
    first: int = 0,
    chunk: int | None = None,
) -> Tensor:
    """Samples (n, C, H, W) in model space, n the number of conditions given, from number `first` on.

    nets: in evaluation mode. progress: takes the number of images after each chunk. Where the memory of a
    GPU does not hold a chunk, it and the later ones are halved.
    """
    images: list[Tensor] = []
    start, size = 0, chunk or CHUNK
    while start < len(present):
        part = slice(start, min(start + size, len(present)))
        numbers = range(first + part.start, first + part.stop)
        conditions = {name: value[part] for name, value in given.items()}
        try:
            made = generate_rows(method, nets, how, numbers, conditions, present[part], seed, autocast)
        except torch.OutOfMemoryError:
            if len(numbers) == 1:
                raise
            size = len(numbers) // 2
            continue
        images.append(made)
        progress(len(made))
        start = part.stop
    return torch.cat(images)


def chunks(count: int, size: int | None = None, first: int = 0) -> Iterator[range]:
    """Rows that are generated at once, of those from `first` on. size: `CHUNK` by default."""
    size = size or CHUNK
    return (range(start, min(start + size, count)) for start in range(first, count, size))


@torch.no_grad()
def generate_rows(
    method: Method,
    nets: Nets,
    how: BaseModel,
    rows: range,
    given: Values,
    present: Tensor,
    seed: int,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Tensor:
    """Some rows of an endless set of samples, (b, C, H, W) in model space; given, present: of these rows."""
    draw = RowDraw(seed, 0, "sample", rows, present.device)
    with autocast():
        return method.sample(nets, method.latent(draw), given, present, draw, how).float()
