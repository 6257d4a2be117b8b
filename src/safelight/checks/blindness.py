"""Whether samples of a network that was never trained depend on what they are made from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from safelight.checks.bench.clock import NotTold
from safelight.checks.bench.finding import Code, Finding
from safelight.checks.bench.subject import Subject
from safelight.checks.bench.trial import FEW
from safelight.draw import RowDraw
from safelight.types import Encodes

SECONDS = 8.0
FAST = True
LEAST = 0.02  # of the variance of the first samples' values

BLIND = Code(
    "latent-unseen",
    "warning",
    "first samples are nearly the same whatever they are made from: a generator that starts blind to its "
    "latent is taught one image at first, and its samples may stay alike",
    "state first weights that keep the spread of the latent through every layer, with biases of 0 "
    "(networks/dc_generator.py: he)",
)


def check(subject: Subject) -> Iterator[Finding]:
    """Two latents for each of a few conditions at step 0, everything else the same."""
    if not getattr(subject.method, "draws", True):
        return
    share = seen(subject)
    if share < LEAST:
        taught = isinstance(subject.method, Encodes)  # reconstructions show a decoder what its latent means
        yield BLIND.found(
            f"{share:.2g} of the variance of the first samples depends on the latent",
            f"at least {LEAST:g}",
            severity="note" if taught else None,
        )


def seen(subject: Subject) -> float:
    """The share of the variance of untrained samples' values that the latent decides.

    Raises NotTold where a latent is as large as an image: it is the image's noise, and in it by design.
    """
    draw, other = (RowDraw(0, 0, name, range(FEW), subject.device) for name in ("sample", "other latents"))
    subject.trial  # noqa: B018 - builds the networks, which may tell the method the shape
    latents = [subject.method.latent(which) for which in (draw, other)]
    if latents[0].shape[1:] == subject.spec.shape:
        raise NotTold("samples start from an image of noise")
    plan = subject.plan
    state = subject.build(replace(plan, train=plan.train.model_copy(update={"ema_lengths": ()})))
    nets = {**{name: state.nets[name].eval() for name in subject.method.frozen}, **state.averages.networks}
    real = subject.real(FEW)
    with torch.no_grad():
        first, second = (
            subject.method.sample(nets, latent, real.given, real.present, draw, subject.quick_how).float()
            for latent in latents
        )
    spread = torch.cat([first, second]).var()
    return float((first - second).square().mean() / 2 / spread.clamp(min=1e-12))
