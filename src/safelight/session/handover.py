"""A run's networks for other tools: safetensors with a plain loader, diffusers, ONNX."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import save_file

from safelight.config import UserError
from safelight.data.space import Space
from safelight.recipes.recipe import Recipe
from safelight.session import shipped
from safelight.session.products import Product
from safelight.store.durable import mendable
from safelight.types import DataSpec, Method, Nets

Form = Literal["diffusers", "safetensors", "onnx"]
FORMS: tuple[Form, ...] = ("diffusers", "safetensors", "onnx")


@dataclass(frozen=True)
class Trained:
    """What a run has learnt, ready to be handed over."""

    name: str
    step: int
    recipe: Recipe
    method: Method
    nets: Nets  # those that samples use, in evaluation mode
    spec: DataSpec  # as the networks see the data
    space: Space
    product: Product | None  # the autoencoder of its latents

    @property
    def conditions(self) -> dict[str, Any]:
        """As JSON says them."""
        return {name: asdict(own) for name, own in self.spec.conditions.items()}


def hand_over(trained: Trained, form: str, out: Path) -> list[str]:
    """Write the networks into a new folder. Returns what was found out, a line each. Raises UserError."""
    if form not in FORMS:
        raise UserError(f"--to {form}: not one of {', '.join(FORMS)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: is there already; choose a new folder")
    with mendable(out):
        out.mkdir(parents=True, exist_ok=True)
        match form:
            case "diffusers":
                from safelight.session.to_diffusers import write_diffusers

                return write_diffusers(trained, out)
            case "onnx":
                from safelight.session.to_onnx import write_onnx

                return write_onnx(trained, out)
        return _write_safetensors(trained, out)


def _write_safetensors(trained: Trained, out: Path) -> list[str]:
    for name, net in trained.nets.items():
        state = {key: value.detach().cpu().contiguous() for key, value in net.state_dict().items()}
        save_file(state, out / f"{name}.safetensors")
    facts = {
        "run": trained.name,
        "step": trained.step,
        "networks": list(trained.nets),
        "shape": trained.spec.shape,
        "conditions": trained.conditions,
        "shift": trained.space.shift,
        "scale": trained.space.scale,
        "recipe": trained.recipe.tree,
    }
    (out / "config.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")
    copy_shipped("load.py", out)
    return [f"{', '.join(trained.nets)}: open with load.py"]


def copy_shipped(name: str, folder: Path) -> None:
    """Put a file of safelight/session/shipped/ into an exported folder."""
    shutil.copyfile(Path(str(shipped.__file__)).parent / name, folder / name)
