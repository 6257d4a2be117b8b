"""Whether sampling leaves networks in evaluation mode, so that an image does not depend on its batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from safelight.checks.bench.finding import Code, Finding
from safelight.checks.bench.subject import FEW, Subject

SECONDS = 6.0
FAST = True
MOVES = 1e-2  # relative: pixels depend on the size of the batch at 1e-6

TRAINING = Code(
    "sampling-in-training-mode",
    "error",
    "while four samples are made, a batch norm or dropout layer is in training mode, or a buffer changes",
    "batch norm or dropout in training mode makes an image depend on its batch: no sample can be repeated",
    "do not call train() in sample, and leave buffers alone; networks come in evaluation mode",
)
COMPANY = Code(
    "sample-depends-on-company",
    "warning",
    "the first of four samples differs from the same latent and condition sampled alone",
    "the same latent gives another image in another batch, so no sample can be reproduced",
    "let every row of a sample depend on its own latent and condition only",
)


def check(subject: Subject) -> Iterator[Finding]:
    """Samples together and apart, watching every layer that has a mode."""
    nets = subject.sampling_nets
    count = min(FEW, subject.rows)
    real = subject.real(count)
    training: list[str] = []

    def hook(name: str) -> Callable[..., None]:
        def note(module: nn.Module, arguments: Any) -> None:
            if module.training:
                training.append(name)

        return note

    before = {name: {key: value.clone() for key, value in net.named_buffers()} for name, net in nets.items()}
    handles = [
        module.register_forward_pre_hook(hook(f"{name}.{key}"))
        for name, net in nets.items()
        for key, module in net.named_modules()
        if isinstance(module, _BatchNorm | _DropoutNd)
    ]
    try:
        together = subject.sample(nets, real.given, real.present, subject.quick_how)
    finally:
        for handle in handles:
            handle.remove()
    left = [name for name, net in nets.items() if any(module.training for module in net.modules())]
    changed = [f"{name}.{key}" for name, net in nets.items() for key, value in net.named_buffers()
               if not torch.equal(value, before[name][key])]  # fmt: skip
    faults = (("ran in training mode", training), ("changed", changed), ("was left in training mode", left))
    for words, places in faults:
        if places:
            for net in nets.values():
                net.eval()
            yield TRAINING.finding(f"{places[0]} {words} while sampling", "everything in evaluation mode")
            return
    if count < 2:
        return
    first = {name: value[:1] for name, value in real.given.items()}
    alone = subject.sample(nets, first, real.present[:1], subject.quick_how)
    share = float((together[:1] - alone).abs().max() / together.abs().max().clamp(min=1e-12))
    if share > MOVES:
        yield COMPANY.finding(
            f"a sample alone differs from the same among {count} by {share:.2g} of its values", "the same"
        )
