"""The autoencoder of latent diffusion (Rombach 2022), as diffusers' AutoencoderKL has it.

Both sides are those of diffusers, layer for layer and name for name, so that weights can be opened there.

The encoder: residual blocks of group norm, SiLU and 3x3 convolution; a strided convolution between levels; in
the middle self-attention of one head between two blocks.

Initial weights: PyTorch's default, uniform within 1 / sqrt(n) for n inputs of an output.

The decoder.
Initial weights: PyTorch's default, uniform within 1 / sqrt(n) for n inputs of an output.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from safelight.config import Depth, Section, Size, UserError
from safelight.networks.residual_vae import divisible, smallest
from safelight.networks.unet import attend
from safelight.types import DataSpec, Values

EPS = 1e-6  # of its group norms, as published


class KLEncoderConfig(Section):
    name: Literal["kl_encoder"] = "kl_encoder"
    latent: Size = 4
    """Channels of the latent; the decoder follows them."""
    widths: tuple[Size, ...] = Field((128, 256, 512, 512), min_length=1)
    """Channels of each level, full size first; each level halves."""
    blocks: Depth = 2
    """Residual blocks at each size."""
    groups: Size = 32
    """Groups of the group norms."""
    attention: bool = True
    """Self-attention at the smallest size."""

    @property
    def multiple(self) -> int:
        """Sides of images are multiples of so many pixels; it takes images of any such size."""
        return int(2 ** (len(self.widths) - 1))

    def latent_shape(self, spec: DataSpec) -> tuple[int, ...]:
        """(c, h, w)."""
        return (self.latent, *smallest(spec, len(self.widths), "encoder"))

    def build(self, spec: DataSpec) -> nn.Module:
        """The network for `spec`. Raises UserError for a size or a width that does not divide."""
        smallest(spec, len(self.widths), "encoder")
        divisible(self.widths, self.groups, "encoder")
        return KlEncoder(self, spec)


class KlEncoder(nn.Module):
    """(B, C, H, W) -> mean, log-variance, (B, c, h, w) each. It sees no condition."""

    def __init__(self, config: KLEncoderConfig, spec: DataSpec) -> None:
        super().__init__()
        widths = config.widths
        steps = [Down] * (len(widths) - 1) + [None]
        self.conv_in = nn.Conv2d(spec.shape[0], widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            KLLevel(inputs, width, config.blocks, config.groups, step)
            for inputs, width, step in zip((widths[0], *widths), widths, steps, strict=False)
        )
        self.mid_block = Middle(widths[-1], config.groups, config.attention)
        self.conv_norm_out = nn.GroupNorm(config.groups, widths[-1], EPS)
        self.conv_out = nn.Conv2d(widths[-1], 2 * config.latent, 3, padding=1)

    def forward(self, x: Tensor, given: Values, present: Tensor) -> tuple[Tensor, Tensor]:
        x = self.conv_in(x)
        for level in self.down_blocks:
            x = level(x)
        x = self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))
        mean, logvar = x.chunk(2, dim=1)
        return mean, logvar


class KLLevel(nn.Module):
    """Residual blocks of one size, then a step to the next where there is one."""

    def __init__(
        self, inputs: int, width: int, blocks: int, groups: int, step: type[nn.Module] | None
    ) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(
            KLBlock(width if place else inputs, width, groups) for place in range(blocks)
        )
        self.downsamplers = nn.ModuleList([Down(width)]) if step is Down else None
        self.upsamplers = nn.ModuleList([Up(width)]) if step is Up else None

    def forward(self, x: Tensor) -> Tensor:
        for block in self.resnets:
            x = block(x)
        for step in self.downsamplers or self.upsamplers or ():
            x = step(x)
        return x


class KLBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm x)))))."""

    recomputable = True

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inputs, EPS)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, outputs, EPS)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        if inputs != outputs:
            self.conv_shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y)))
        result: Tensor = (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x) + y
        return result


class Middle(nn.Module):
    """Two residual blocks, between them attention."""

    def __init__(self, width: int, groups: int, attention: bool) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([KLAttention(width, groups)] if attention else [])
        self.resnets = nn.ModuleList(KLBlock(width, width, groups) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.resnets[0](x)
        for attention in self.attentions:
            x = attention(x)
        result: Tensor = self.resnets[1](x)
        return result


class KLAttention(nn.Module):
    """Self-attention of one head over the pixels, added to them."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, width, EPS)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.group_norm(x).flatten(2).transpose(1, 2)
        q, k, v = (layer(tokens)[:, None] for layer in (self.to_q, self.to_k, self.to_v))
        y = self.to_out[0](attend(q, k, v)[:, 0])
        result: Tensor = x + y.transpose(1, 2).reshape(x.shape)
        return result


class Down(nn.Module):
    """Half the size by a strided convolution, padded below and to the right."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return result


class Up(nn.Module):
    """Twice the size: every pixel four times, then a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return result


class KLDecoderConfig(Section):
    name: Literal["kl_decoder"] = "kl_decoder"
    widths: tuple[Size, ...] = Field((512, 512, 256, 128), min_length=1)
    """Channels of each level, smallest size first; each level doubles."""
    blocks: Depth = 3
    """Residual blocks at each size; diffusers has one more than in its encoder."""
    groups: Size = 32
    """Groups of the group norms."""
    attention: bool = True
    """Self-attention at the smallest size."""

    @property
    def multiple(self) -> int:
        """It takes latents of any size."""
        return 1

    def build(self, spec: DataSpec, latent: tuple[int, ...] = (4, 0, 0)) -> nn.Module:
        """The network for `spec` and a latent (c, h, w).

        Raises UserError for a size or a width that does not divide, or a latent that is no picture.
        """
        divisible(self.widths, self.groups, "decoder")
        seed = smallest(spec, len(self.widths), "decoder")
        if len(latent) != 3 or (latent[1:] != seed and latent[1:] != (0, 0)):
            raise UserError(
                f"network.decoder.widths: {len(self.widths)} of them start at {seed[0]}x{seed[1]}, but the "
                f"latent is {'x'.join(map(str, latent))}; state as many widths as the encoder, a kl_encoder"
            )
        return KlDecoder(self, spec, latent[0])


class KlDecoder(nn.Module):
    """z (B, c, h, w) -> (B, C, H, W). It sees no condition."""

    def __init__(self, config: KLDecoderConfig, spec: DataSpec, latent: int) -> None:
        super().__init__()
        widths = config.widths
        steps = [Up] * (len(widths) - 1) + [None]
        self.conv_in = nn.Conv2d(latent, widths[0], 3, padding=1)
        self.mid_block = Middle(widths[0], config.groups, config.attention)
        self.up_blocks = nn.ModuleList(
            KLLevel(inputs, width, config.blocks, config.groups, step)
            for inputs, width, step in zip((widths[0], *widths), widths, steps, strict=False)
        )
        self.conv_norm_out = nn.GroupNorm(config.groups, widths[-1], EPS)
        self.conv_out = nn.Conv2d(widths[-1], spec.shape[0], 3, padding=1)

    def forward(self, z: Tensor, given: Values, present: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(z))
        for level in self.up_blocks:
            x = level(x)
        images: Tensor = self.conv_out(F.silu(self.conv_norm_out(x)))
        return images
