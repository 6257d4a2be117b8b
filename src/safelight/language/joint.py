"""The text side of an encoder that was trained here, from its folder (session/encoders.py writes it)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch.nn import functional as F

from safelight.language.encoder import TextEncoder, digest_of
from safelight.language.tower import TextTower


def open_joint(folder: Path, open_base: Callable[[str], TextEncoder]) -> TextEncoder:
    """The text encoder in the folder: the frozen one that it names, then its tower. Raises UserError."""
    facts = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
    base = open_base(facts["base"])
    tower = TextTower(base.size, facts["text"]["width"], facts["text"]["depth"], facts["features"]).eval()
    weights = load_file(folder / "encoder.safetensors")
    tower.load_state_dict({name.removeprefix("text."): value for name, value in weights.items()
                           if name.startswith("text.")})  # fmt: skip

    @torch.inference_mode()
    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        features: NDArray[np.float32] = F.normalize(
            tower(torch.from_numpy(base.encode(texts))), dim=1
        ).numpy()
        return features

    digest = f"{base.digest} {digest_of(folder / 'encoder.safetensors')}"
    return TextEncoder(facts["name"], digest, facts["features"], encode)
