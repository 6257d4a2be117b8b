"""The text side of a CLIP (Radford 2021) in a folder, as transformers keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from safelight.config import UserError, install
from safelight.language.encoder import TextEncoder, digest_of


def open_clip(folder: Path) -> TextEncoder:
    """The text encoder of the CLIP in a folder. Raises UserError where it cannot be opened."""
    try:
        from transformers import CLIPTextModelWithProjection, PreTrainedTokenizerFast, logging
    except ImportError as error:
        raise UserError(f"{folder}: a CLIP; run: {install('pretrained')}") from error
    weights, vocabulary = folder / "model.safetensors", folder / "tokenizer.json"
    for file in (weights, vocabulary):
        if not file.is_file():
            raise UserError(f"{folder}: holds no {file.name}; expected a CLIP as transformers saves it")
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model = CLIPTextModelWithProjection.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    model.train(False)
    tokens = PreTrainedTokenizerFast(tokenizer_file=str(vocabulary))  # type: ignore[no-untyped-call]
    length, end = model.config.max_position_embeddings, model.config.eos_token_id

    @torch.inference_mode()
    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        read = [tokens(text, truncation=True, max_length=length)["input_ids"] for text in texts]
        longest = max(len(ids) for ids in read)
        ids = torch.tensor([[*own, *[end] * (longest - len(own))] for own in read])
        there = torch.tensor([[1] * len(own) + [0] * (longest - len(own)) for own in read])
        features = model(input_ids=ids, attention_mask=there).text_embeds
        normalised: NDArray[np.float32] = F.normalize(features, dim=1).numpy()
        return normalised

    return TextEncoder(
        folder.name, digest_of(weights, vocabulary), int(model.config.projection_dim or 0), encode
    )
