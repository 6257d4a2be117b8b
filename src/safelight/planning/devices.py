"""Accelerators that a plan can be made for without having one: memory and speed by their data sheets."""

from __future__ import annotations

import re
from dataclasses import dataclass

from safelight.config import UserError, nearest

ASSUMED = 0.35  # of the peak that training reaches; what well-fed networks were reported at, no measurement


@dataclass(frozen=True)
class Accelerator:
    """One kind."""

    name: str
    gigabytes: float
    teraflops: float  # dense, in bfloat16 (float16 where it has none)


KNOWN = (
    Accelerator("T4 16GB", 16, 65),
    Accelerator("V100 16GB", 16, 125),
    Accelerator("V100 32GB", 32, 125),
    Accelerator("RTX 3090 24GB", 24, 71),
    Accelerator("RTX 4090 24GB", 24, 165),
    Accelerator("A10 24GB", 24, 125),
    Accelerator("L4 24GB", 24, 121),
    Accelerator("L40S 48GB", 48, 362),
    Accelerator("A100 40GB", 40, 312),
    Accelerator("A100 80GB", 80, 312),
    Accelerator("H100 80GB", 80, 989),
    Accelerator("H200 141GB", 141, 989),
)


def like(words: str) -> Accelerator:
    """The accelerator of a name such as "A100 80GB" or "rtx4090". Raises UserError."""
    name = _plain(words)
    fitting = [kind for kind in KNOWN if _plain(kind.name).startswith(name) or _plain(kind.name) == name]
    if not name or not fitting:
        raise UserError(f"--like {words!r}: is not known{nearest(words, [kind.name for kind in KNOWN])}")
    return fitting[0]


def _plain(words: str) -> str:
    return re.sub(r"nvidia|geforce|[^a-z0-9]", "", words.lower())
