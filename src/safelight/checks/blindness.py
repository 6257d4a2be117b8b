"""Whether samples of a network that was never trained depend on what they are made from."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from safelight.checks.bench.finding import Code, Finding
from safelight.checks.bench.subject import BACKWARD, FEW, Subject
from safelight.engine.state import built
from safelight.randomness import RowDraw
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
    "(networks/dcgan.py: he)",
)


def check(subject: Subject) -> Iterator[Finding]:
    """Two latents for each of a few conditions at step 0, everything else the same."""
    if not getattr(subject.method, "draws", True):
        return
    share = seen(subject)
    if share is not None and share < LEAST:
        taught = isinstance(subject.method, Encodes)  # reconstructions show a decoder what its latent means
        yield BLIND.found(
            f"{share:.2g} of the variance of the first samples depends on the latent",
            f"at least {LEAST:g}",
            severity="note" if taught else None,
        )


def seen(subject: Subject) -> float | None:
    """The share of the variance of untrained samples' values that the latent decides.

    None where a latent is as large as an image: it is the image's noise, and in it by design.
    """
    seconds = (
        subject.trial.seconds_an_image
    )  # of networks that are built, which may tell the method the shape
    draw, other = (RowDraw(0, 0, name, range(FEW), subject.device) for name in ("sample", "other latents"))
    latents = [subject.method.latent(which) for which in (draw, other)]
    if latents[0].shape[1:] == subject.spec.shape:
        return None
    subject.clock.afford(2 * FEW * seconds / BACKWARD, "samples of untrained networks")
    nets = built(subject.method, subject.spec, subject.plan.train.seed, subject.device, "contiguous")
    for net in nets.values():
        net.eval()
    real = subject.real(FEW)
    with torch.no_grad():
        first, second = (
            subject.method.sample(nets, latent, real.given, real.present, draw, subject.quick_how).float()
            for latent in latents
        )
    spread = torch.cat([first, second]).var()
    return float((first - second).square().mean() / 2 / spread.clamp(min=1e-12))
