"""A run's networks for other tools: safetensors with a plain loader, diffusers, ONNX."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

from safetensors.torch import save_file

from safelight.config import UserError
from safelight.engine.adapters import adapters, merged
from safelight.export.diffusers import write_diffusers
from safelight.export.onnx import write_onnx
from safelight.export.shipped import copy_shipped
from safelight.loading.model import Model
from safelight.recipe import GUIDE
from safelight.store.durable import mendable, publish, sweep, temporary_beside

FORMS = ("diffusers", "safetensors", "onnx", "lora")


def export_networks(model: Model, form: str, out: Path) -> list[str]:
    """Write the networks into a new folder, whole or not at all. Returns a line about each file.

    Raises UserError.
    """
    require_new(form, out)
    left = []
    if by := getattr(model.how, GUIDE, None):
        model = replace(model, nets={name: net for name, net in model.nets.items() if name != "guide"})
        left = [f"left out: guidance by {by}, which needs both runs; safelight sample --guide-by has it"]
    if form != "lora":  # other tools know no adapters
        model = replace(model, nets={name: merged(net) for name, net in model.nets.items()})
    place = next(path for path in out.absolute().parents if path.is_dir())
    with mendable(out):
        sweep(place, name=out.name)
        work = temporary_beside(place / out.name)
        work.mkdir()
        try:
            lines = WRITERS[form](model, work)
            out.parent.mkdir(parents=True, exist_ok=True)
            publish(work, out)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
    return [line.replace(str(work), str(out)) for line in lines] + left


def require_new(form: str, out: Path) -> None:
    """Raises UserError for a form there is none of, and for a folder that holds anything."""
    if form not in FORMS:
        raise UserError(f"--to {form}: is not a valid choice; use {', '.join(FORMS)}")
    with mendable(out):
        if os.path.lexists(out) and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out}: exists already; choose a new folder")


def _write_safetensors(model: Model, out: Path) -> list[str]:
    for name, net in model.nets.items():
        state = {key: value.detach().cpu().contiguous() for key, value in net.state_dict().items()}
        save_file(state, out / f"{name}.safetensors")
    facts = {
        "run": model.directory.name,
        "step": model.step,
        "networks": list(model.nets),
        "shape": model.spec.shape,
        "conditions": model.conditions,
        "shift": model.space.shift,
        "scale": model.space.scale,
        "recipe": model.tree,
    }
    (out / "config.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")
    copy_shipped("load.py", out)
    return [f"{', '.join(model.nets)}: open with load.py"]


def _write_lora(model: Model, out: Path) -> list[str]:
    """Adapters apart from the weights they are added to, as peft has them: a folder for each network."""
    lines = []
    for name, net in model.nets.items():
        tensors, config = adapters(net)
        if tensors:
            folder = out / name
            folder.mkdir()
            save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
            (folder / "adapter_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
            lines.append(
                f"{name}: {len(tensors) // 2} adapters of rank {config['r']} in {folder}, as of peft"
            )
    if not lines:
        raise UserError(
            f"{model.directory.name}: has no adapters; train with train.lora, or use another --to"
        )
    return lines


WRITERS = {"diffusers": write_diffusers, "safetensors": _write_safetensors, "onnx": write_onnx,
           "lora": _write_lora}  # fmt: skip
