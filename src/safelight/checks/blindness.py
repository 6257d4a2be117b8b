"""Whether samples of an untrained network depend on their latent."""

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
    "Untrained networks sample from two latents under the same conditions and noise, and the latent decides"
    " less than 2 % of the variance. A note where the method also reconstructs images; skipped where a "
    "latent is as large as an image.",
    "the first samples are nearly the same for every latent: the generator first learns a single image, and "
    "samples may stay alike",
    "use initial weights that keep the spread of the latent, with biases of 0 (networks/dcgan.py: he)",
)


def check(subject: Subject) -> Iterator[Finding]:
    """Two latents for each of a few conditions at step 0, everything else the same."""
    if not getattr(subject.method, "draws", True):
        return
    share = latent_share(subject)
    if share is not None and share < LEAST:
        taught = isinstance(subject.method, Encodes)  # reconstructions show a decoder what its latent means
        yield BLIND.finding(
            f"{share:.2g} of the variance of the first samples depends on the latent",
            f"at least {LEAST:g}",
            "note" if taught else None,
        )


def latent_share(subject: Subject) -> float | None:
    """The share of the variance of untrained samples' values that the latent decides.

    None where a latent is as large as an image: it is the image's noise, and in it by design.
    """
    seconds = subject.trial.seconds_an_image  # first: building networks may tell the method the shape
    draw, other = (RowDraw(0, 0, name, range(FEW), subject.device) for name in ("sample", "other latents"))
    latents = [subject.method.latent(draw), subject.method.latent(other)]
    if latents[0].shape[1:] == subject.spec.shape:
        return None
    subject.clock.afford(2 * FEW * seconds / BACKWARD, "samples of untrained networks")
    nets = built(subject.method, subject.spec, subject.plan.train, subject.device, "contiguous")
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
