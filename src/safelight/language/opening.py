"""Text encoders by name."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from safelight.config import UserError
from safelight.language.encoder import TextEncoder


@lru_cache(maxsize=4)
def open_encoder(name: str) -> TextEncoder:
    """The encoder of [data] text_encoder: "words", "sentences", or the folder of a trained one.

    Raises UserError where it is not there, or its package is missing.
    """
    if name == "words":
        from safelight.language import words

        return TextEncoder(name, f"words {words.VERSION}", words.SIZE, words.encode)
    if name == "sentences":
        from safelight.language import sentences

        return sentences.open_sentences()
    folder = Path(name)
    if (folder / "encoder.json").is_file():
        from safelight.language import joint

        return joint.open_joint(folder, open_encoder)
    if (folder / "config.json").is_file():
        from safelight.language import clip

        return clip.open_clip(folder)
    raise UserError(
        f"data.text_encoder: {name} is no encoder; expected words, sentences, recipe:NAME, run:NAME, or the "
        "folder or Hub id of a CLIP"
    )
