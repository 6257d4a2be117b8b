"""Folders that diffusers opens: an autoencoder by itself, or a pipeline of a denoiser and its autoencoder."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from safelight.config import UserError, install
from safelight.export.shipped import copy_shipped
from safelight.loading.dependencies import pretrained_autoencoder, vae_of
from safelight.loading.model import Trained
from safelight.networks import kl_autoencoder
from safelight.recipe import Recipe
from safelight.types import Nets

KL = 1.0  # scaling_factor of an autoencoder by itself: x = latent


def write_diffusers(trained: Trained, out: Path) -> list[str]:
    """An AutoencoderKL of a run of kl_encoder and kl_decoder, or the pipeline of a diffusion model.

    Raises UserError where diffusers has no such architecture, or is missing.
    """
    try:
        import_module("diffusers")
    except ImportError as error:
        raise UserError(f"diffusers is an extra: {install('pretrained')}") from error
    if "encoder" in trained.nets and "decoder" in trained.nets:
        autoencoder(trained.recipe, trained.nets, trained.spec.shape[1]).save_pretrained(out)
        return ["AutoencoderKL: open with AutoencoderKL.from_pretrained"]
    if set(trained.nets) != {"denoiser"}:
        raise UserError(
            f"diffusers has no architecture for the {', '.join(trained.nets)} of {trained.name}; "
            "use --to safetensors"
        )
    return _write_pipeline(trained, out)


def autoencoder(recipe: Recipe, nets: Nets, size: int) -> Any:
    """diffusers' AutoencoderKL with the weights of a run. Raises UserError where the layers differ."""
    encoder, decoder = recipe.networks["encoder"], recipe.networks["decoder"]
    if not (
        isinstance(encoder, kl_autoencoder.KLEncoderConfig)
        and isinstance(decoder, kl_autoencoder.KLDecoderConfig)
    ):
        raise UserError("diffusers has kl_encoder and kl_decoder alone; use --to safetensors")
    same = (encoder.groups, encoder.attention) == (decoder.groups, decoder.attention)
    if not same or decoder.blocks != encoder.blocks + 1 or decoder.widths != encoder.widths[::-1]:
        raise UserError(
            "diffusers' AutoencoderKL has a decoder with the encoder's widths, groups and attention, and one "
            "block more at each size; this one differs: use --to safetensors"
        )
    levels = len(encoder.widths)
    channels = nets["encoder"].conv_in.weight.shape[1]  # type: ignore[union-attr, index]
    make: Any = import_module("diffusers").AutoencoderKL
    model = make(
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=encoder.widths,
        layers_per_block=encoder.blocks,
        latent_channels=encoder.latent,
        norm_num_groups=encoder.groups,
        sample_size=size,
        scaling_factor=KL,
        mid_block_add_attention=encoder.attention,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    state: dict[str, Tensor] = {}
    for role in ("encoder", "decoder"):
        state |= {f"{role}.{key}": value for key, value in nets[role].state_dict().items()}
    model.load_state_dict(state)
    return model.eval()


def _write_pipeline(trained: Trained, out: Path) -> list[str]:
    """denoiser/, vae/ where there are latents, and the files that join them."""
    from safelight.export.shipped.modeling import SafelightDenoiser

    model = SafelightDenoiser(
        recipe=json.dumps(trained.recipe.tree),
        shape=list(trained.spec.shape),
        conditions=json.dumps(trained.conditions),
    )
    model.net.load_state_dict(trained.nets["denoiser"].state_dict())
    model.save_pretrained(out / "denoiser")
    copy_shipped("modeling.py", out / "denoiser")
    index: dict[str, Any] = {
        "_class_name": ["pipeline", "SafelightPipeline"],
        "_diffusers_version": import_module("diffusers").__version__,
        "denoiser": ["modeling", "SafelightDenoiser"],
        "vae": [None, None],
        "shift": trained.space.shift,
        "scale": trained.space.scale,
    }
    if trained.product:
        if trained.product.run:
            recipe, _, spec, nets = vae_of(trained.product, torch.device("cpu"))
            vae = autoencoder(recipe, nets, spec.shape[1])
        else:
            vae = pretrained_autoencoder(trained.product)
        vae.save_pretrained(out / "vae")
        index["vae"] = ["diffusers", "AutoencoderKL"]
    (out / "model_index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")
    copy_shipped("pipeline.py", out)
    return [f'pipeline: open with DiffusionPipeline.from_pretrained("{out}", trust_remote_code=True)']
