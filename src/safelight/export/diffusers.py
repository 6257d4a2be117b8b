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
from safelight.loading.codecs import KEY, pretrained_autoencoder, vae_of
from safelight.loading.dependencies import products_of
from safelight.loading.model import Model
from safelight.networks.kl_autoencoder import KLDecoderConfig, KLEncoderConfig

SCALE = 1.0  # scaling_factor of an autoencoder by itself: x = latent


def write_diffusers(model: Model, out: Path) -> list[str]:
    """An AutoencoderKL of a run of kl_encoder and kl_decoder, or the pipeline of a diffusion model.

    Raises UserError where diffusers has no such architecture, or is missing.
    """
    try:
        import_module("diffusers")
    except ImportError as error:
        raise UserError(f"diffusers is an extra: {install('pretrained')}") from error
    if "encoder" in model.nets and "decoder" in model.nets:
        autoencoder(model).save_pretrained(out)
        return ["AutoencoderKL: open with AutoencoderKL.from_pretrained"]
    if set(model.nets) != {"denoiser"}:
        raise UserError(
            f"diffusers has no architecture for the {', '.join(model.nets)} of {model.directory.name}; "
            "use --to safetensors"
        )
    if model.data.pixels.alpha:
        raise UserError("data.channels=4: a diffusers pipeline draws no alpha; use --to safetensors")
    return _write_pipeline(model, out)


def autoencoder(trained: Model) -> Any:
    """diffusers' AutoencoderKL with the weights of a run. Raises UserError where the layers differ."""
    encoder, decoder = trained.recipe.networks["encoder"], trained.recipe.networks["decoder"]
    if not (isinstance(encoder, KLEncoderConfig) and isinstance(decoder, KLDecoderConfig)):
        raise UserError("diffusers supports kl_encoder and kl_decoder only; use --to safetensors")
    same = (encoder.groups, encoder.attention) == (decoder.groups, decoder.attention)
    if not same or decoder.blocks != encoder.blocks + 1 or decoder.widths != encoder.widths[::-1]:
        raise UserError(
            "diffusers' AutoencoderKL has a decoder with the encoder's widths, groups and attention, and one "
            "block more at each size; this one differs: use --to safetensors"
        )
    levels = len(encoder.widths)
    channels = trained.nets["encoder"].conv_in.weight.shape[1]  # type: ignore[union-attr, index]
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
        sample_size=trained.spec.shape[1],
        scaling_factor=SCALE,
        mid_block_add_attention=encoder.attention,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    state: dict[str, Tensor] = {}
    for role in ("encoder", "decoder"):
        state |= {f"{role}.{key}": value for key, value in trained.nets[role].state_dict().items()}
    model.load_state_dict(state)
    return model.eval()


def _write_pipeline(model: Model, out: Path) -> list[str]:
    """denoiser/, vae/ where there are latents, and the files that join them."""
    from safelight.export.shipped.modeling import SafelightDenoiser

    denoiser = SafelightDenoiser(
        recipe=json.dumps(model.tree),
        shape=list(model.spec.shape),
        conditions=json.dumps(model.conditions),
    )
    denoiser.net.load_state_dict(model.nets["denoiser"].state_dict())
    denoiser.save_pretrained(out / "denoiser")
    copy_shipped("modeling.py", out / "denoiser")
    index: dict[str, Any] = {
        "_class_name": ["pipeline", "SafelightPipeline"],
        "_diffusers_version": import_module("diffusers").__version__,
        "denoiser": ["modeling", "SafelightDenoiser"],
        "vae": [None, None],
        "shift": model.space.shift,
        "scale": model.space.scale,
    }
    if product := products_of(model.directory).get(KEY):
        if product.run:
            vae = autoencoder(vae_of(product, torch.device("cpu")))
        else:
            vae = pretrained_autoencoder(product)
        vae.save_pretrained(out / "vae")
        index["vae"] = ["diffusers", "AutoencoderKL"]
    (out / "model_index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")
    copy_shipped("pipeline.py", out)
    return [f'pipeline: open with DiffusionPipeline.from_pretrained("{out}", trust_remote_code=True)']
