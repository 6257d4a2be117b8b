"""The KL autoencoder computes what diffusers' AutoencoderKL does with the same weights."""

from __future__ import annotations

import pytest
import torch

from safelight.config import UserError
from safelight.networks import kl_autoencoder
from safelight.types import DataSpec

SPEC = DataSpec((3, 16, 24))
NOTHING: tuple[dict[str, torch.Tensor], torch.Tensor] = ({}, torch.zeros(2, dtype=torch.bool))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("attention", [True, False])
def test_outputs_equal_those_of_diffusers(attention):
    diffusers = pytest.importorskip("diffusers")
    encoder = kl_autoencoder.KLEncoderConfig(
        latent=2, widths=(8, 12, 16), blocks=1, groups=4, attention=attention
    ).build(SPEC)
    decoder = kl_autoencoder.KLDecoderConfig(
        widths=(16, 12, 8), blocks=2, groups=4, attention=attention
    ).build(SPEC, (2, 4, 6))
    theirs = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 12, 16),
        layers_per_block=1,
        latent_channels=2,
        norm_num_groups=4,
        mid_block_add_attention=attention,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    theirs.load_state_dict(
        {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
        | {f"decoder.{name}": value for name, value in decoder.state_dict().items()}
    )
    x, z = torch.randn(2, 3, 16, 24), torch.randn(2, 2, 4, 6)
    with torch.no_grad():
        posterior = theirs.encode(x).latent_dist
        mean, logvar = encoder(x, *NOTHING)
        torch.testing.assert_close(mean, posterior.mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(logvar, posterior.logvar, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(decoder(z, *NOTHING), theirs.decode(z).sample, rtol=1e-4, atol=1e-5)


def test_the_published_sizes_are_those_of_stable_diffusions_vae():
    """83.65 M parameters, less the two 1x1 convolutions about its latent (72 + 20)."""
    spec = DataSpec((3, 64, 64))
    with torch.device("meta"):
        encoder, decoder = (
            kl_autoencoder.KLEncoderConfig().build(spec),
            kl_autoencoder.KLDecoderConfig().build(spec, (4, 8, 8)),
        )
    assert sum(p.numel() for net in (encoder, decoder) for p in net.parameters()) == 83_653_863 - 92


def test_what_does_not_fit_is_told():
    with pytest.raises(UserError, match=r"network.encoder.widths: 15x16 images do not divide by 4"):
        kl_autoencoder.KLEncoderConfig(widths=(8, 8, 8), groups=4).build(DataSpec((3, 15, 16)))
    with pytest.raises(UserError, match=r"network.encoder.groups: 3 does not divide width 8"):
        kl_autoencoder.KLEncoderConfig(widths=(8,), groups=3).build(SPEC)
    with pytest.raises(UserError, match="state as many widths as the encoder"):
        kl_autoencoder.KLDecoderConfig(widths=(8, 8), groups=4).build(SPEC, (2, 4, 6))
    with pytest.raises(UserError, match="state as many widths as the encoder"):
        kl_autoencoder.KLDecoderConfig(widths=(8, 8), groups=4).build(SPEC, (64,))
