"""Whether an autoencoder's latent will carry anything, told before training.

From outside: how much an error of the decoder costs, c |x̂ - x|² / 2, is the loss's curvature in the decoder's
answer; how much a nat costs, v, is its slope in the encoder's mean, where KL = μ²/2. Together they state a
Gaussian decoder of variance σ² = v / c. Where σ² exceeds the largest eigenvalue of the images' covariance
within their conditions, the best decoder ignores its latent (Lucas 2019).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from safelight.checks.bench.finding import Code, Finding
from safelight.checks.bench.oracle import DenoiserCall, asked, targets
from safelight.checks.bench.probes import Call, NotTold, Stand, first_rows, reach, watching
from safelight.checks.bench.subject import FEW, Subject
from safelight.engine.plan import weight_at
from safelight.functional import elbo
from safelight.types import Batch, Remembers

SECONDS = 15.0
FAST = True
IMAGES = 512  # the covariance is measured on
SETTLED = 100  # repetitions after which what a method remembers has settled
AT = 3.0  # the mean at which a nat's cost is measured: 4.5 nats, more than any free bits
LEAST_NATS = 1.5  # a dimension should be able to carry

COLLAPSE = Code(
    "posterior-collapse",
    "error",
    "the loss is least where the decoder ignores its latent: every sample is the mean image of its "
    "condition, and the total looks better than a good model's",
    "raise the weight of the reconstruction, or let the method find its variance, as calibrated sigma does",
)
CAPPED = Code(
    "latent-capped",
    "error",
    "heads of a bounded activation cap what a latent dimension can tell, however the weights are set",
    "end the encoder's heads in plain layers",
)


@dataclass(frozen=True)
class Encoder:
    """A network that answers with the mean and log-variance of a latent."""

    call: Call  # with its answer
    heads: tuple[Tensor, Tensor]
    components: tuple[str, ...]  # of the phase


def check(subject: Subject) -> Iterator[Finding]:
    """Every decoder whose loss is a square, with an encoder before it."""
    batch = subject.batch(subject.rows)
    for one in asked(subject):
        encoder = _encoder(subject, one, batch)
        if encoder is None:
            continue
        yield from _heads(subject, encoder)
        found = targets(subject, one, batch)
        if not torch.allclose(found.targets, batch.x, atol=1e-3):
            continue  # it is not the image that is decoded
        curvature = _settled_curvature(subject, one, batch)
        nat = _cost_of_a_nat(subject, one, encoder, batch)
        variance = nat / curvature
        real = _images(subject)
        eigenvalues = elbo.covariance_eigenvalues(real.x.flatten(1), _vectors(subject, real))
        active = elbo.predicted_active(eigenvalues, math.sqrt(variance))
        if not active:
            yield COLLAPSE.found(
                f"the weights of {' and '.join(encoder.components)} imply a decoder of standard deviation "
                f"{math.sqrt(variance) / 2:.3g} in [0, 1]; the images' strongest direction within their "
                f"conditions has {math.sqrt(float(eigenvalues[0])) / 2:.3g}: no latent is worth its nats",
                "a smaller standard deviation than that",
            )


def _encoder(subject: Subject, one: DenoiserCall, batch: Batch) -> Encoder | None:
    """The network that is asked about the image, and answers with two tensors of one shape."""
    with watching(subject.nets, answers=True) as calls:
        components = subject.losses(subject.nets, one.phase, batch)
    for call in calls:
        heads = call.answer if isinstance(call.answer, tuple | list) else ()
        if len(heads) == 2 and call.network != one.network and heads[0].shape == heads[1].shape:
            return Encoder(call, (heads[0].detach(), heads[1].detach()), tuple(components))
    return None


def _heads(subject: Subject, encoder: Encoder) -> Iterator[Finding]:
    """How far the heads can be pushed, and the nats of a dimension at the ends."""
    few = first_rows(encoder.call).arguments

    def head(place: int) -> Callable[[nn.Module], Tensor]:
        def answer(net: nn.Module) -> Tensor:
            made: Tensor = net(*few)[place]
            return made

        return answer

    net = subject.nets[encoder.call.network]
    means = reach(net, head(0), -AT, AT, subject.clock)
    logvars = reach(net, head(1), -2 * AT, AT, subject.clock)
    most = max(
        float(elbo.kl(torch.tensor(mean), torch.tensor(logvar))) for mean in means for logvar in logvars
    )
    if most < LEAST_NATS:
        yield CAPPED.found(
            f"{encoder.call.network}: means reach {means[0]:.2f} to {means[1]:.2f}, log-variances "
            f"{logvars[0]:.2f} to {logvars[1]:.2f}: at most {most:.2f} nats a dimension",
            f"above {LEAST_NATS:g}",
        )


def _settled_curvature(subject: Subject, one: DenoiserCall, batch: Batch) -> float:
    """c, once what the method remembers has settled on a decoder that answers with the mean image."""
    method, memory = subject.method, subject.trial.state.memory
    was = dict(memory)
    try:
        if isinstance(method, Remembers) and was:
            mean = batch.x.mean(0, keepdim=True).expand_as(batch.x)
            for _ in range(SETTLED):
                nets = {**subject.nets, one.network: one.stand(mean)}
                with torch.no_grad():
                    seen = subject.losses(nets, one.phase, batch, seen=True)
                memory |= method.remember(one.phase.name, memory, seen)
        return float(targets(subject, one, batch).curvature.mean())
    finally:
        memory.update(was)


def _cost_of_a_nat(subject: Subject, one: DenoiserCall, encoder: Encoder, batch: Batch) -> float:
    """v: the slope of the weighted loss, less what the decoder's answer costs, in a mean of `AT`, over `AT`.

    Weights are those at the end of their ramps. Raises NotTold where the loss has no such slope.
    """
    mean = torch.full_like(encoder.heads[0], AT).requires_grad_()
    heads = (mean, torch.zeros_like(mean))
    nets = {
        **subject.nets,
        encoder.call.network: Stand(encoder.call.network, lambda call: heads),  # type: ignore[arg-type,return-value]
        one.network: one.stand(batch.x),
    }
    components = subject.losses(nets, one.phase, batch)
    final = {name: weight_at(weight, subject.plan.steps) for name, weight in subject.plan.weights.items()}
    total = sum(final.get(name, 1.0) * values.sum() for name, values in components.items())
    if not isinstance(total, Tensor) or not total.requires_grad:
        raise NotTold("no component costs nats of the latent")
    (slope,) = torch.autograd.grad(total, mean)
    nat = float(slope.mean()) / AT
    if nat <= 0:
        raise NotTold("no component costs nats of the latent")
    return nat


def _images(subject: Subject) -> Batch:
    """Images in model space with their conditions."""
    count = max(FEW, min(IMAGES, 2**26 // subject.batch(1).x.numel(), len(subject.pack.train)))
    return subject.batch(count)


def _vectors(subject: Subject, batch: Batch) -> Tensor | None:
    """What the conditions are as vectors, (n, K); None where there are none."""
    parts = []
    if "label" in batch.given:
        parts.append(F.one_hot(batch.given["label"], subject.spec.classes))
    parts += [batch.given[name] for name in ("attributes",) if name in batch.given]
    return torch.cat([part.cpu().double() for part in parts], 1) if parts else None
