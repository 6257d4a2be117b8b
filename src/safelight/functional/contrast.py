"""Features compared: images with their texts among others, and the feature maps of two images.

infonce_i = -log softmax_j(fits_ij)_i             pair i among the others j (van den Oord 2018)
C(a, b)   = infonce of cos(a_i, b_j) / τ
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from safelight.types import Batch, Draw, Moment


def infonce(fits: Tensor, among: Tensor) -> Tensor:
    """-log softmax_j(fits_ij) at j = i, (n,), for fits (n, m), m ≥ n.

    among: (m,) or (n, m) bool, which columns a row is contrasted with; its own it always is.
    """
    pairs = torch.eye(*fits.shape, dtype=torch.bool, device=fits.device)
    return -fits.masked_fill(~(among | pairs), -torch.inf).log_softmax(1).diagonal()


def contrastive(a: Tensor, b: Tensor, temperature: float, there: Tensor, *, twice: bool = False) -> Tensor:
    """C(a, b) (n,) for a (n, d) and b (m, d), m ≥ n.

    there: (m,) bool, which of b are contrasted with. twice: of exp(cos / τ) in the place of cos / τ.
    """
    fits = F.normalize(a, dim=1) @ F.normalize(b, dim=1).T / temperature
    return infonce(fits.exp() if twice else fits, there)


def over_all(
    moment: Moment, a: Tensor, b: Tensor, there: Tensor, temperature: float, queue: Tensor | None = None,
    *, twice: bool = False,
) -> Tensor:  # fmt: skip
    """C(a, b) over the global batch (B,), in fp32, for rows a and b (b, d).

    there: (b,), rows that are not there neither count nor are contrasted with. queue: (n, d), further ones of
    b to contrast with; rows of zeros are empty places.
    """
    with moment.fp32():
        a, b, there = moment.gather(a.float()), moment.gather(b.float()), moment.gather(there.float()) > 0
        among = there
        if queue is not None:
            b, among = torch.cat([b, queue]), torch.cat([there, queue.abs().sum(1) > 0])
        return torch.where(there, contrastive(a, b, temperature, among, twice=twice), 0)


def of_the_next(moment: Moment, batch: Batch, h: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """The text features (b, T) of the next row of the global batch, and whether it is another text."""
    rows = (torch.arange(batch.rows.start, batch.rows.stop, device=h.device) + 1) % batch.total
    clean = F.normalize(batch.given["text"].float(), dim=1)
    other, same = moment.gather(h)[rows], (moment.gather(clean)[rows] * clean).sum(1) > 0.999
    return other, (there & (moment.gather(there.float())[rows] > 0) & ~same).float()


def perturbed(h: Tensor, share: float, draw: Draw) -> Tensor:
    """(1 - share) h + share ε / |ε|, brought back to unit length (LAFITE; Zhou 2022)."""
    if not share:
        return h
    ε = F.normalize(draw.normal("text noise", h.shape[1]), dim=1)
    return F.normalize((1 - share) * h + share * ε, dim=1)


def distance(a: list[Tensor], b: list[Tensor]) -> Tensor:
    """Mean squared distance (b,) of feature maps, each position's channels of unit length (Zhang 2018)."""
    each = [
        (F.normalize(x.float(), dim=1) - F.normalize(y.float(), dim=1)).square().sum(1).mean((1, 2))
        for x, y in zip(a, b, strict=True)
    ]
    return torch.stack(each).mean(0)
