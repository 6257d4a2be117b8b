"""The gradient of every sample's loss, sketched: what gradient tracing is made of.

A sample's gradient is averaged over draws (times, noises, latents), which are the rows of one batch: one
backward pass a sample, whatever the network is made of. All samples meet the same draws, so that what two
gradients have in common is what the images have in common, and not their noises. A sketch adds up the
parameters under random signs, those whose numbers are equal modulo `size` (Charikar et al. 2002): inner
products keep their expectation, with a variance of at most 2 |a|² |b|² / size. Of no more parameters than
`size` it is the gradient itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from safelight.config import UserError
from safelight.randomness import RowDraw, key, reseed
from safelight.types import Batch, Method, Moment, Phase

PHASE = "influence"  # of the keyed draws


def traced(method: Method) -> Sequence[Phase]:
    """The phases of a method whose loss is one of images alone. Raises UserError where it is not.

    A generator of a GAN never sees an image, and a contrastive loss has no part that is one image's.
    """
    if hasattr(method, "equilibria") or any(phase.whole for phase in method.phases):
        raise UserError(
            "influence: needs a loss that is a sum over images, as of diffusion and of autoencoders without "
            "a discriminator; for this run: safelight fork RUN --step 0 --without ITEM, then compare"
        )
    return method.phases


class SampleGradients:
    """Sketches of the gradients of samples' losses, for networks as they are now.

    weights: of the loss components, as in force. memory: of the method. draws: over which each gradient is
    averaged, their times one in each stratum.
    """

    def __init__(
        self, method: Method, nets: Mapping[str, nn.Module], weights: Mapping[str, float],
        memory: Mapping[str, Tensor], seed: int, draws: int, size: int, step: int = 0,
    ) -> None:  # fmt: skip
        """Raises UserError as `traced`."""
        self._phases, self._nets, self._weights, self._memory = traced(method), nets, weights, memory
        self._seed, self._draws, self._step = seed, draws, step
        for net in nets.values():
            net.eval()  # samples do not meet in batch norms
        trained = [p for phase in self._phases for name in phase.trains for p in nets[name].parameters()]
        self._parameters = [*dict.fromkeys(p for p in trained if p.requires_grad)]
        self.count = sum(p.numel() for p in self._parameters)
        self.size = min(size, self.count)
        rng = np.random.Generator(np.random.Philox(key=key(seed, PHASE, "signs")))
        signs = rng.integers(0, 2, -(-self.count // self.size) * self.size, np.int8).astype(np.float32)
        self._signs = torch.from_numpy(2 * signs - 1).view(-1, self.size)

    def of(self, batch: Batch) -> Tensor:
        """The mean gradients (b, size) float32 of a batch's rows, on the CPU."""
        return torch.stack([self._one(batch, row) for row in range(len(batch.x))])

    def _one(self, batch: Batch, row: int) -> Tensor:
        rows = range(self._draws)
        same = {name: value[row : row + 1].expand(self._draws, *value.shape[1:])
                for name, value in batch.given.items()}  # fmt: skip
        x = batch.x[row : row + 1].expand(self._draws, *batch.x.shape[1:])
        repeated = Batch(x, same, batch.present[row : row + 1].expand(self._draws), rows, self._draws)
        total = x.new_zeros(())
        for phase in self._phases:
            reseed(self._seed, PHASE, phase.name)
            draw = RowDraw(self._seed, 0, f"{PHASE} {phase.name}", rows, x.device)
            moment = Moment(self._step, draw, self._memory, self._weights, lambda values: values,
                            lambda: torch.autocast(x.device.type, enabled=False))  # fmt: skip
            components, _ = phase.losses(self._nets, repeated, moment)
            for name, values in components.items():
                total = total + self._weights[name] * values.float().sum() / self._draws
        gradients = torch.autograd.grad(total, self._parameters, allow_unused=True)
        pairs = zip(self._parameters, gradients, strict=True)
        flat = (
            torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for p, g in pairs]).float().cpu()
        )
        if self.size == self.count:
            return flat
        padded = torch.nn.functional.pad(flat, (0, self._signs.numel() - self.count))
        return (padded.view_as(self._signs) * self._signs).sum(0)


def tracin(sample: Tensor, items: Tensor) -> Tensor:
    """(n,) inner products of gradients (Pruthi et al. 2020): a step on an item lowers a sample's loss.

    sample: (d,). items: (n, d). Of one checkpoint: weighed by its learning rate, summed over checkpoints.
    """
    return items @ sample


def whitened(sample: Tensor, items: Tensor, damping: float) -> Tensor:
    """(n,) g (G + λ)^-1 g_i with G = Σ g_i g_i^T: what an item adds that the others do not.

    The influence function of a loss of Gauss-Newton form (Koh and Liang 2017; of projections, Park et al.
    2023). λ: damping times the mean of G's eigenvalues that can be other than 0. Solved in the smaller of
    the two dimensions, (G + λ)^-1 X^T = X^T (X X^T + λ)^-1.
    """
    x, g = items.double(), sample.double()
    n, d = x.shape
    ridge = damping * float(x.square().sum()) / min(n, d)
    if d <= n:
        gram = x.T @ x
        gram.diagonal().add_(ridge)
        scores: Tensor = x @ torch.linalg.solve(gram, g)
        return scores.float()
    kernel = x @ x.T
    kernel.diagonal().add_(ridge)
    dual: Tensor = torch.linalg.solve(kernel, x @ g)
    return dual.float()
