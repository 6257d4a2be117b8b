"""Averages of the weights: the exponential one that samples use, and two power-function tracks.

The tracks follow Karras et al. 2024 ("Analyzing and Improving the Training Dynamics of Diffusion
Models", section 3): from snapshots of two of them an average of another length can be made after
training, by `reconstruct`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from safelight.types import Nets

Floats = NDArray[np.float64]


class Averages:
    """Running averages of some networks. Parameters are averaged, buffers copied.

    networks: modules in evaluation mode that hold the exponential average, by name; where an optimiser
    makes an average of its own (schedule-free), they hold that.
    """

    def __init__(
        self,
        nets: Nets,
        names: Sequence[str],
        decay: float,
        lengths: Sequence[float],
        others: Sequence[Callable[[], Mapping[int, Tensor]]] = (),
    ) -> None:
        """others: averages that optimisers make, by the id of the parameter."""
        self.decay = decay
        self._others = others
        self.networks = {name: deepcopy(nets[name]).eval().requires_grad_(False) for name in names}
        self._live = [p.detach() for name in names for p in nets[name].parameters()]
        self._ids = [id(p) for name in names for p in nets[name].parameters()]
        self._average: list[Tensor] = [p for net in self.networks.values() for p in net.parameters()]
        self._live_buffers = [b for name in names for b in nets[name].buffers()]
        self._buffers = [b for net in self.networks.values() for b in net.buffers()]
        self._tracks = {length: [p.clone() for p in self._live] for length in lengths}
        self._names = [f"{name}.{key}" for name in names for key, _ in nets[name].named_parameters()]

    def update(self, step: int) -> None:
        """Take in the weights after a step (0-based)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        if self._average:
            torch._foreach_lerp_(self._average, self._live, 1 - decay)
        for other in self._others:
            made = other()
            for number, average in zip(self._ids, self._average, strict=True):
                if number in made:
                    average.copy_(made[number])
        if self._buffers:
            torch._foreach_copy_(self._buffers, self._live_buffers)
        for length, track in self._tracks.items():
            if track:
                torch._foreach_lerp_(track, self._live, power_weight(length, step + 1))

    @property
    def parts(self) -> list[Tensor]:
        """All averaged parameters: of the exponential average, then of each track."""
        return [*self._average, *(value for track in self._tracks.values() for value in track)]

    def tracks(self) -> dict[str, Tensor]:
        """The power-function tracks by "track<length>.<network>.<name>", see `tracks_of`."""
        return {
            f"track{length}.{name}": value
            for length, track in self._tracks.items()
            for name, value in zip(self._names, track, strict=True)
        }

    def tensors(self) -> dict[str, Tensor]:
        """Everything a checkpoint has to keep, by name."""
        state = {f"ema.{name}.{key}": value for name, net in self.networks.items()
                 for key, value in net.state_dict().items()}  # fmt: skip
        return state | self.tracks()

    @torch.no_grad()
    def adopt(self, weights: Mapping[str, Tensor]) -> None:
        """Put averaged parameters, by network and name as in `tracks_of`, in the place of the average's."""
        for name, parameter in zip(self._names, self._average, strict=True):
            parameter.copy_(weights[name])


def tracks_of(averages: Mapping[str, Tensor]) -> dict[float, dict[str, Tensor]]:
    """The power-function tracks among a checkpoint's averages: relative length -> weights."""
    tracks: dict[float, dict[str, Tensor]] = {}
    for key, value in averages.items():
        if match := re.match(r"track(\d*\.\d+)\.(.*)", key):
            tracks.setdefault(float(match[1]), {})[match[2]] = value
    return tracks


def power_weight(length: float, step: int) -> float:
    """Weight of the newest parameters in a power-function average after `step` updates (1-based)."""
    return float(1 - (1 - 1 / step) ** (exponent(length) + 1))


@cache
def exponent(length: float) -> float:
    """The exponent γ of the profile tᵞ whose standard deviation, relative to training time, is `length`.

    It solves (γ + 1) / ((γ + 2)² (γ + 3)) = length² (Karras 2024, equation 126).
    """
    roots = np.roots([1, 7, 16 - length**-2, 12 - length**-2])
    return float(roots.real.max())


def reconstruct(
    snapshots: Iterable[tuple[int, float, Mapping[str, Tensor]]], length: float, step: int
) -> dict[str, Tensor]:
    """Averaged weights of any relative length, at a step, as the best fit from stored snapshots.

    snapshots: (step, relative length, weights) of power-function tracks; steps after `step` are not used.
    """
    usable = [snapshot for snapshot in snapshots if snapshot[0] <= step]
    factors, _ = fitted([(time, track) for time, track, _ in usable], length, step)
    averaged = {name: torch.zeros_like(value, dtype=torch.float32) for name, value in usable[-1][2].items()}
    for factor, (_, _, weights) in zip(factors, usable, strict=True):
        for name, value in weights.items():
            averaged[name] += float(factor) * value.float()
    return averaged


def fitted(snapshots: Sequence[tuple[int, float]], length: float, step: int) -> tuple[Floats, float]:
    """Factors of tracks at (step, relative length) that make an average of `length` at `step`; its error.

    Least squares in the inner product of the averaging profiles (Karras 2024, appendix C). The error is the
    norm of what the profile is off by, as a share of its own. Raises ValueError without any snapshot.
    """
    if not snapshots:
        raise ValueError(f"no snapshot at or before step {step}")
    times = np.array([time for time, _ in snapshots], dtype=np.float64)
    gammas = np.array([exponent(track) for _, track in snapshots])
    gram = profile_product(times[:, None], gammas[:, None], times[None], gammas[None])
    now, gamma = np.array(float(step)), np.array(exponent(length))
    target = profile_product(times, gammas, now, gamma)
    factors: Floats = np.linalg.lstsq(gram, target, rcond=None)[0].astype(np.float64)
    whole = float(profile_product(now, gamma, now, gamma))
    missed = whole - 2 * float(factors @ target) + float(factors @ gram @ factors)
    return factors, float(np.sqrt(max(missed, 0.0) / whole))


def profile_product(time_a: Floats, gamma_a: Floats, time_b: Floats, gamma_b: Floats) -> Floats:
    """Inner product of the profiles p(τ) ∝ τᵞ on [0, time]: ∫ p_a(τ) p_b(τ) dτ."""
    earlier = np.minimum(time_a, time_b)
    power = gamma_a + gamma_b + 1
    log = (
        np.log((gamma_a + 1) * (gamma_b + 1) / power)
        + power * np.log(earlier)
        - (gamma_a + 1) * np.log(time_a)
        - (gamma_b + 1) * np.log(time_b)
    )
    result: Floats = np.exp(log)
    return result
