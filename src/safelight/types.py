"""The words the rest of safelight is written in: a batch, a moment of training, a phase, a method.

A method says what is lost (named components, one value a sample); the engine says when and on what.
docs/one-batch.md follows one batch through these types.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import BaseModel
from torch import Tensor, nn

Nets = Mapping[str, nn.Module]


Unit = tuple[str, Literal["less", "more", ""]]  # of a value, and which of it is better; "" where neither is


Values = Mapping[str, Tensor]


@dataclass(frozen=True)
class Condition:
    """One kind of condition the data carries.

    kind: "label" (b,) int64 below `size`; "mask" (b, size, H, W) in [0, 1]; "attributes" (b, size);
    "text" (b, size) features.
    names: the class names of a label or mask, the column names of attributes; may be empty.
    """

    kind: Literal["label", "mask", "attributes", "text"]
    size: int
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataSpec:
    """What a method has to know of the data to build its networks. Never the data itself."""

    shape: tuple[int, int, int]  # (C, H, W) in model space
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    alpha: bool = False  # the last of four channels is alpha; those of latents never are

    @classmethod
    def from_dict(cls, shape: Sequence[int], conditions: Mapping[str, Mapping[str, Any]]) -> DataSpec:
        """Of what JSON holds: a shape, and the fields of each condition by its name."""
        channels, height, width = shape
        named = {
            name: Condition(fields["kind"], int(fields["size"]), tuple(fields["names"]))
            for name, fields in conditions.items()
        }
        return cls((channels, height, width), named)

    @property
    def classes(self) -> int:
        """Number of classes of the label condition; 0 where there are no labels."""
        return self.conditions["label"].size if "label" in self.conditions else 0


@dataclass(frozen=True)
class Batch:
    """One part of a step's global batch."""

    x: Tensor  # (b, C, H, W) in model space: pixels in [-1, 1] or normalised latents
    given: Values  # label (b,), mask (b, K, H, W), attributes (b, A), text (b, T)
    present: Tensor  # (b,) bool; False = no condition; never a magic label
    rows: range  # positions in the global batch
    total: int  # size of the global batch
    features: Tensor | None = None  # (b, T) of x, by the network that the method names; see `Looks`
    weight: Tensor | None = None  # (total,) of the losses of all rows, 1 in the mean; None = all count alike


class Draw(Protocol):
    """Named randomness, bound to a seed, step, phase and rows. See randomness.py."""

    def normal(self, name: str, *shape: int) -> Tensor:
        """Standard normal float32, (b, *shape)."""
        ...

    def uniform(self, name: str, *shape: int, host: bool = False) -> Tensor:
        """Uniform in [0, 1) float32, (b, *shape). host: on the CPU, for what is computed in float64 there."""
        ...

    def integers(self, name: str, high: int, *shape: int) -> Tensor:
        """Uniform int64 in [0, high), (b, *shape)."""
        ...


@dataclass(frozen=True)
class Moment:
    """When a loss is evaluated and with what randomness."""

    step: int
    draw: Draw
    memory: Values  # what the method remembers; read-only here
    weights: Mapping[str, float]  # those in force, so that a component of weight 0 need not be computed
    gather: Callable[[Tensor], Tensor]  # (b, ...) -> (B, ...); own rows differentiable, the others constant
    fp32: Callable[[], AbstractContextManager[object]]  # for gradient penalties under autocast


# -> unweighted components, each (b,) (or (B,) where computed from gathered tensors), and seen values (b, ...)
Losses = Callable[[Nets, Batch, Moment], tuple[Values, Values]]


@dataclass(frozen=True)
class Phase:
    """One optimiser step: which networks it trains, on which loss, how often."""

    name: str
    trains: tuple[str, ...]
    losses: Losses
    every: int = 1  # lazy regularisation: evaluated every so many steps, its gradient times as many
    whole: bool = False  # may call moment.gather
    components: tuple[
        str, ...
    ] = ()  # while all of these weigh 0 the phase makes no step; () = it always does


class Method(Protocol):
    """A family of generators. One file in methods/ is one of these; nothing else registers it.

    Constructed as `cls(config, networks)` with its own `Config` and, by role, the network
    configurations of the recipe. `components` names every loss component with its default weight.
    Roles that a recipe may leave out are in `optional_roles`, where there are any. An encoder, which draws no
    images, says `draws = False`.
    `title` says the family in a few words, for reports; by default the name of the method does.
    A method may add any of the optional hooks of `Remembers`, `Encodes`, `Styled`, `Measures`, `Looks`,
    `Balances` and `Draws` below.
    """

    Config: type[BaseModel]
    Sampling: type[BaseModel]
    roles: Sequence[str]  # the network sections of the recipe: one role means a flat [network]
    phases: Sequence[Phase]
    ema: Sequence[str]  # networks of which averages are kept
    frozen: Sequence[str]  # networks that are never trained
    components: Mapping[str, float]

    def networks(self, spec: DataSpec) -> dict[str, nn.Module]: ...

    def latent(self, draw: Draw) -> Tensor:
        """What a sample is made from (b, ...): GAN z, diffusion noise, a VAE's prior."""
        ...

    def sample(
        self, nets: Nets, latent: Tensor, given: Values, present: Tensor, draw: Draw, how: BaseModel
    ) -> Tensor:
        """Images (b, C, H, W) in model space. `how` is an instance of `Sampling`."""
        ...


@runtime_checkable
class Remembers(Protocol):
    """Optional: state of the method's own that goes from step to step, and into checkpoints."""

    def memory(self) -> dict[str, Tensor]:
        """What is remembered at step 0: ADA's p, a running mean, a queue of features."""
        ...

    def remember(self, phase: str, memory: Values, seen: Values) -> Values:
        """What changed after a phase. `seen` holds the global batch (B, ...), rows in order."""
        ...


@runtime_checkable
class Encodes(Protocol):
    """Optional: a latent for an image, so that a reconstruction is sample(encode(x))."""

    def encode(self, nets: Nets, batch: Batch, draw: Draw) -> Tensor: ...


@runtime_checkable
class Styled(Protocol):
    """Optional: styles, between the latent and the image, which search and projection move.

    `sample` takes them in the place of latents.
    """

    def style(self, nets: Nets, latent: Tensor, how: BaseModel) -> Tensor:
        """The styles of latents, (b, layers, size): one dimension more than a latent has."""
        ...


@runtime_checkable
class Measures(Protocol):
    """Optional: values (b,) on held-out data that need no sampling.

    nets: those of which averages are kept as averages, all in evaluation mode. A method may say the unit of
    each in `units`, a mapping of names to `Unit`; the others are losses, of which less is better.
    """

    def measure(self, nets: Nets, batch: Batch, draw: Draw) -> Values: ...


@runtime_checkable
class UsesImageFeatures(Protocol):
    """Optional: asks for features of real images by a frozen network, which are computed once and kept."""

    def looks_with(self, weights: Mapping[str, Any]) -> str | None:
        """The role of the network (b, C, H, W) -> (b, T); None where no component of these weights asks."""
        ...


@runtime_checkable
class Balances(Protocol):
    """Optional: components of networks that work against each other, such as a discriminator's.

    Their value is no measure of progress. Monitors take no rise of them for a divergence, curves show the
    value where neither side wins. See monitor/vitals.py for what else a family says by what it logs.
    """

    equilibria: Mapping[str, float]  # by component


@runtime_checkable
class Draws(Protocol):
    """Optional: extra figures of a family, by name."""

    def panels(self, nets: Nets, batch: Batch, draw: Draw) -> Mapping[str, Panel]: ...


@dataclass(frozen=True)
class Panel:
    """A figure of images for a report: a grid, with labels for its rows and columns.

    images: (rows, columns, C, H, W) in model space.
    """

    images: Tensor
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    caption: str = ""


Autocast = Callable[[], AbstractContextManager[object]]


Tell = Callable[[str], None]  # takes one line for the user
