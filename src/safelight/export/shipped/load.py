"""Opens this folder: `nets, facts = load()`. Needs the packages safelight and safetensors.

nets: the networks by name, in evaluation mode, the weights that samples use. facts: the resolved recipe, the
shape (C, H, W) that the networks see, the conditions, and of latents how x = (latent - shift) * scale.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from safelight.recipe import resolve
from safelight.types import DataSpec


def load(folder: Path = Path(__file__).parent) -> tuple[dict[str, Any], dict[str, Any]]:
    """The networks and what is known of them."""
    facts = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    method = resolve(facts["recipe"], "exported").method()
    made = method.networks(DataSpec.from_dict(facts["shape"], facts["conditions"]))
    nets = {name: made[name].eval() for name in facts["networks"]}
    for name, net in nets.items():
        net.load_state_dict(load_file(folder / f"{name}.safetensors"))
    return nets, facts
