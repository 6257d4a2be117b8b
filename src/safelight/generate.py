"""Images from a method and its networks: the same seed and row give the same image, in any company."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from pydantic import BaseModel
from torch import Tensor

from safelight.config import UserError, nearest
from safelight.draw import RowDraw
from safelight.types import Condition, DataSpec, Method, Nets, Values

CHUNK = 250  # images generated at once


def conditions(
    spec: DataSpec, wanted: Mapping[str, str], count: int, device: torch.device
) -> tuple[dict[str, Tensor], Tensor]:
    """The conditions of `count` samples: given, and present (count,).

    wanted: by condition, "3" or "Sneaker" for every sample, "each" for the classes in turn, "none" for an
    unconditional sample. A label that is not mentioned is "each". Raises UserError.
    """
    for name in wanted:
        if name not in spec.conditions:
            raise UserError(
                f"condition {name}: the data has no such condition{nearest(name, spec.conditions)}"
            )
    given: dict[str, Tensor] = {}
    present = torch.zeros(count, dtype=torch.bool, device=device)
    for name, condition in spec.conditions.items():
        if condition.kind != "label":
            raise UserError(f"condition {name}: sampling on a {condition.kind} is not available here")
        value = wanted.get(name, "each")
        given[name] = _labels(condition, name, value, count).to(device)
        present |= value != "none"
    return given, present


def _labels(condition: Condition, name: str, value: str, count: int) -> Tensor:
    if value == "each":
        return torch.arange(count) % condition.size
    if value == "none":
        return torch.zeros(count, dtype=torch.int64)
    if value in condition.names:
        return torch.full((count,), condition.names.index(value))
    if value.isdigit() and int(value) < condition.size:
        return torch.full((count,), int(value))
    known = [*condition.names, "each", "none"]
    raise UserError(
        f"condition {name}={value}: not one of the {condition.size} classes{nearest(value, known)}"
    )


def generate(
    method: Method,
    nets: Nets,
    how: BaseModel,
    given: Values,
    present: Tensor,
    seed: int,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    progress: Callable[[int], None] = lambda count: None,
) -> Tensor:
    """Samples (n, C, H, W) in model space, n the number of conditions given.

    nets: in evaluation mode. progress: told the number of images after each chunk.
    """
    images = []
    for rows in chunks(len(present)):
        part = slice(rows.start, rows.stop)
        own = {name: value[part] for name, value in given.items()}
        images.append(generate_rows(method, nets, how, rows, own, present[part], seed, autocast))
        progress(len(rows))
    return torch.cat(images)


def chunks(count: int) -> Iterator[range]:
    """Rows that are generated at once."""
    return (range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK))


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
