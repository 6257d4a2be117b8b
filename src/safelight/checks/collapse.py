"""Whether an autoencoder's latent will carry information, known before training.

What an error of the decoder costs, c |x̂ - x|² / 2, is the loss's curvature c in the decoder's answer; what a
nat costs, v, is its slope in the encoder's mean, where KL = μ²/2. Together they state a Gaussian decoder of
variance σ² = v / c. Where σ² exceeds the largest eigenvalue of the images' covariance within their
conditions, the best decoder ignores its latent (Lucas 2019).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from safelight.checks.bench.finding import Code, Finding
from safelight.checks.bench.oracle import ImageNetwork, image_networks, targets
from safelight.checks.bench.probes import Call, NotApplicable, StandIn, first_rows, reach, watching
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
    "The loss implies a Gaussian decoder: its variance is the slope of the loss in the encoder's mean over "
    "its curvature in the decoder's answer. This variance exceeds the largest eigenvalue of the covariance "
    "of up to 512 images within their labels and attributes (Lucas 2019). A calibrated sigma settles first.",
    "the loss is least where the decoder ignores its latent: every sample is the mean image of its condition",
    "raise the weight of the reconstruction, or let the method find its variance (calibrated sigma)",
)
CAPPED = Code(
    "latent-capped",
    "error",
    "A copy of the encoder is trained to push each of its two heads as far as it goes. At the ends the KL, "
    "(mean^2 + exp(logvar) - 1 - logvar) / 2, is below 1.5 nats a dimension: two tanh heads reach 0.86.",
    "bounded heads limit the information of a latent dimension, whatever the weights",
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
    for decoder in image_networks(subject):
        encoder = _encoder(subject, decoder, batch)
        if encoder is None:
            continue
        yield from _heads(subject, encoder)
        if not torch.allclose(targets(subject, decoder, batch).targets, batch.x, atol=1e-3):
            continue  # it is not the image that is decoded
        curvature = _settled_curvature(subject, decoder, batch)
        deviation = math.sqrt(_cost_of_a_nat(subject, decoder, encoder, batch) / curvature)
        real = _images(subject)
        eigenvalues = elbo.covariance_eigenvalues(real.x.flatten(1), _vectors(subject, real))
        if not elbo.predicted_active(eigenvalues, deviation):
            yield COLLAPSE.finding(
                f"the weights of {' and '.join(encoder.components)} imply a decoder of standard deviation "
                f"{deviation / 2:.3g} in [0, 1]; the images' strongest direction within their "
                f"conditions has {math.sqrt(float(eigenvalues[0])) / 2:.3g}: no latent is worth its nats",
                "a smaller standard deviation than that",
            )


def _encoder(subject: Subject, decoder: ImageNetwork, batch: Batch) -> Encoder | None:
    """The other network that answers with two tensors of one shape."""
    with watching(subject.nets, answers=True) as calls:
        components = subject.losses(subject.nets, decoder.phase, batch)
    for call in calls:
        heads = call.answer if isinstance(call.answer, tuple | list) else ()
        if len(heads) == 2 and call.network != decoder.name and heads[0].shape == heads[1].shape:
            return Encoder(call, (heads[0].detach(), heads[1].detach()), tuple(components))
    return None


def _heads(subject: Subject, encoder: Encoder) -> Iterator[Finding]:
    """How far the heads can be pushed, and the nats of a dimension at the ends."""
    few = first_rows(encoder.call).arguments

    def head(place: int) -> Callable[[nn.Module], Tensor]:
        def answer(net: nn.Module) -> Tensor:
            output: Tensor = net(*few)[place]
            return output

        return answer

    net = subject.nets[encoder.call.network]
    means = reach(net, head(0), -AT, AT, subject.clock)
    logvars = reach(net, head(1), -2 * AT, AT, subject.clock)
    most = max(
        float(elbo.kl(torch.tensor(mean), torch.tensor(logvar))) for mean in means for logvar in logvars
    )
    if most < LEAST_NATS:
        yield CAPPED.finding(
            f"{encoder.call.network}: means reach {means[0]:.2f} to {means[1]:.2f}, log-variances "
            f"{logvars[0]:.2f} to {logvars[1]:.2f}: at most {most:.2f} nats a dimension",
            f"above {LEAST_NATS:g}",
        )


def _settled_curvature(subject: Subject, decoder: ImageNetwork, batch: Batch) -> float:
    """c, once what the method remembers has settled on a decoder that answers with the mean image."""
    method, memory = subject.method, subject.trial.state.memory
    was = dict(memory)
    try:
        if isinstance(method, Remembers) and was:
            mean = batch.x.mean(0, keepdim=True).expand_as(batch.x)
            for _ in range(SETTLED):
                nets = {**subject.nets, decoder.name: decoder.stand_in(mean)}
                with torch.no_grad():
                    seen = subject.losses(nets, decoder.phase, batch, seen=True)
                memory |= method.remember(decoder.phase.name, memory, seen)
        return float(targets(subject, decoder, batch).curvature.mean())
    finally:
        memory.update(was)


def _cost_of_a_nat(subject: Subject, decoder: ImageNetwork, encoder: Encoder, batch: Batch) -> float:
    """v: the slope of the weighted loss, less what the decoder's answer costs, in a mean of `AT`, over `AT`.

    Weights are those at the end of their ramps. Raises NotApplicable where the loss has no such slope.
    """
    mean = torch.full_like(encoder.heads[0], AT).requires_grad_()
    heads = (mean, torch.zeros_like(mean))
    nets = {
        **subject.nets,
        encoder.call.network: StandIn(encoder.call.network, lambda call: heads),  # type: ignore[arg-type,return-value]
        decoder.name: decoder.stand_in(batch.x),
    }
    components = subject.losses(nets, decoder.phase, batch)
    final = {name: weight_at(weight, subject.plan.steps) for name, weight in subject.plan.weights.items()}
    total = sum(final.get(name, 1.0) * values.sum() for name, values in components.items())
    nat = 0.0
    if isinstance(total, Tensor) and total.requires_grad:
        nat = float(torch.autograd.grad(total, mean)[0].mean()) / AT
    if nat <= 0:
        raise NotApplicable("no loss component penalises the latent")
    return nat


def _images(subject: Subject) -> Batch:
    """Images in model space with their conditions."""
    count = max(FEW, min(IMAGES, 2**26 // subject.batch(1).x.numel(), len(subject.pack.train)))
    return subject.batch(count)


def _vectors(subject: Subject, batch: Batch) -> Tensor | None:
    """Labels and attributes as vectors, (n, K); None where there are none."""
    parts = []
    if "label" in batch.given:
        parts.append(F.one_hot(batch.given["label"], subject.spec.classes))
    if "attributes" in batch.given:
        parts.append(batch.given["attributes"])
    return torch.cat([part.cpu().double() for part in parts], 1) if parts else None
