"""Subjects for the tests of checks: a method and networks from a test, on the digits or on any pack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from safelight import methods
from safelight.checks.bench.finding import Finding
from safelight.checks.bench.probes import NotApplicable, OutOfTime
from safelight.checks.bench.runner import discovered, name_of
from safelight.checks.bench.subject import Subject
from safelight.data import open_data
from safelight.data.config import Data
from safelight.data.stream import Stream
from safelight.discovery import Outside, method_class, module
from safelight.engine.plan import Optim, Plan, Train
from safelight.engine.state import State
from safelight.types import Method

FAULTS = Path(__file__).parent / "fixtures" / "faults"
CPU = torch.device("cpu")


class Small(nn.Module):
    """A denoiser of one convolution that sees the time and the label."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.label = nn.Conv2d(1, 1, 3, padding=1), nn.Embedding(11, 1)
        self.time = nn.Linear(1, 1)

    def forward(self, x, t, given, present):
        label = torch.where(present, given["label"], 10)
        return self.image(x) + (self.label(label) + self.time(t[:, None]))[:, :, None, None]


class Builds:
    """What a recipe's [network] is to a method."""

    def __init__(self, network: type[nn.Module] = Small) -> None:
        self.network = network

    def build(self, spec: object) -> nn.Module:
        return self.network()


def plain(network: type[nn.Module] = Small, kind: type[Any] | None = None) -> Method:
    """The faultless method of the fixtures, around a network."""
    method = kind or plain_class()
    made: Method = method(method.Config(), {"denoiser": Builds(network)})
    return made


def plain_class() -> type[Any]:
    outside: dict[str, Outside] = {}
    return method_class(module(methods, str(FAULTS / "plain.py"), "method.name", outside))


def digits(batch_size: int = 16, **keys: Any) -> Stream:
    return Stream(open_data(Data(**keys)), 0, batch_size)


def with_pack(stream: Stream, **fields) -> Stream:
    """The same with other fields of its pack."""
    return Stream(replace(stream.pack, **fields), 0, 16)


def subject(
    method: Method | None = None,
    stream: Stream | None = None,
    *,
    steps: int = 1000,
    batch_size: int = 16,
    ema: float = 0.9,
    optim: Mapping[str, Any] | None = None,
    weights: Mapping[str, Any] | None = None,
    how: Mapping[str, Any] | None = None,
    hours: float | None = None,
    precision: str = "fp32",
) -> Subject:
    method = method or plain()
    stream = stream or digits()
    trained = {name for phase in method.phases for name in phase.trains}
    plan = Plan(
        steps,
        Train(steps=steps, batch_size=batch_size, ema=ema),
        {name: Optim(**(optim or {})) for name in trained},
        {**method.components, **(weights or {})},
    )
    return Subject(
        method,
        lambda plan: State(method, stream.spec, plan, CPU, "contiguous"),
        stream.spec,
        plan,
        method.Sampling(**(how or {})),
        stream.of,
        hours=hours,
        precision=precision,
    )


def findings_of(of: Subject, *names: str) -> list[Finding]:
    """What the checks of these names find, all of them by default; one that cannot look is an error."""
    return list(_found(of, names))


def _found(of: Subject, names: tuple[str, ...]) -> Iterator[Finding]:
    for check in discovered():
        if not names or name_of(check) in names:
            try:
                yield from check.check(of)
            except (NotApplicable, OutOfTime):
                if names:
                    raise


def codes(of: Subject, *names: str) -> set[str]:
    """The codes of `found` above notes."""
    return {finding.code for finding in findings_of(of, *names) if finding.severity != "note"}
