"""Whether sampling leaves networks in evaluation mode, so that an image does not depend on its company."""

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
    "batch norm then normalises by the samples at hand and changes its statistics, dropout stays on: an "
    "image depends on its company, and no sheet shows the same sample twice",
    "do not call train() in sample, and leave buffers alone; networks come in evaluation mode",
)
COMPANY = Code(
    "sample-depends-on-company",
    "warning",
    "the same latent gives another image in another batch: nothing that was found can be found again",
    "let every row of a sample depend on its own latent and condition only",
)


def check(subject: Subject) -> Iterator[Finding]:
    """Samples together and apart, with an eye on every layer that has a mode."""
    nets = subject.sampling_nets
    count = min(FEW, subject.rows)
    real = subject.real(count)
    wrong: list[str] = []

    def hook(name: str) -> Callable[..., None]:
        def note(module: nn.Module, arguments: Any) -> None:
            if module.training:
                wrong.append(name)

        return note

    kept = {name: {key: value.clone() for key, value in net.named_buffers()} for name, net in nets.items()}
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
               if not torch.equal(value, kept[name][key])]  # fmt: skip
    if wrong or changed or left:
        place = (wrong or changed or left)[0]
        for net in nets.values():
            net.eval()
        told = "ran in training mode" if wrong else "changed" if changed else "was left in training mode"
        yield TRAINING.found(f"{place} {told} while sampling", "everything in evaluation mode")
        return
    if count < 2:
        return
    first = {name: value[:1] for name, value in real.given.items()}
    alone = subject.sample(nets, first, real.present[:1], subject.quick_how)
    share = float((together[:1] - alone).abs().max() / together.abs().max().clamp(min=1e-12))
    if share > MOVES:
        yield COMPANY.found(
            f"a sample alone differs from the same among {count} by {share:.2g} of its values", "the same"
        )
