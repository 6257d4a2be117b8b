"""A run's networks for other tools: safetensors with a plain loader, diffusers, ONNX."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save_file

from safelight.config import UserError
from safelight.session.export.to_diffusers import write_diffusers
from safelight.session.export.to_onnx import write_onnx
from safelight.session.export.trained import Trained, copy_shipped
from safelight.store.durable import mendable

FORMS = ("diffusers", "safetensors", "onnx")


def export_networks(trained: Trained, form: str, out: Path) -> list[str]:
    """Write the networks into a new folder. Returns what was found out, a line each. Raises UserError."""
    if form not in FORMS:
        raise UserError(f"--to {form}: not one of {', '.join(FORMS)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: is there already; choose a new folder")
    with mendable(out):
        out.mkdir(parents=True, exist_ok=True)
        match form:
            case "diffusers":
                return write_diffusers(trained, out)
            case "onnx":
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
