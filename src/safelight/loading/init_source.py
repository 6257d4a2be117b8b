"""What init.from names, a run at a step or files, and the tensors in it."""

from __future__ import annotations

import re
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from safelight.config import UserError
from safelight.loading.dependencies import Product, pretrained
from safelight.loading.recorded import checkpoint_step
from safelight.store import checkpoint, checkpoint_files
from safelight.store.directory import RUN, find
from safelight.store.durable import mendable

INIT = "init.from"


def init_product(reference: str, runs: Path) -> Product:
    """What init.from names: a run at a step, a .safetensors file, or a folder of such. Raises UserError."""
    words = reference.removeprefix("run:")
    if reference.startswith("recipe:"):
        raise UserError(f"{INIT}: {reference} is a recipe; train it, and name the run")
    if Path(words).is_absolute() and Path(words).exists() and not (Path(words) / RUN).is_file():
        return pretrained(INIT, words)
    match = re.fullmatch(r"(.+?)(?:@(\w+))?", words)
    assert match
    name, step = match[1], match[2]
    try:
        directory = find(name, runs)
    except UserError as error:
        if "/" in words and not Path(words).is_absolute() and words == reference:
            return pretrained(INIT, reference)
        raise UserError(f"{INIT}: {error}") from error
    number = checkpoint_step(directory, int(step) if step and step.isdecimal() else step, lambda line: None)
    digest = checkpoint_files.digest_of(checkpoint_files.directory(directory.path, number))
    return Product(reference, directory.name, str(directory.path.absolute()), number, digest)


def tensors_of(product: Product, weights: str) -> dict[str, Tensor]:
    """By name: those of a checkpoint begin with its network, those of a folder with where their file is."""
    if product.run:
        assert product.step is not None
        path = checkpoint_files.directory(product.directory.path, product.step)
        groups = checkpoint.load(path, product.directory.digests())
        averages = {name.removeprefix("ema."): value for name, value in groups["averages"].items()
                    if name.startswith("ema.")}  # fmt: skip
        return groups["networks"] | (averages if weights == "averaged" else {})
    path = Path(product.path)
    files = sorted(path.rglob("*.safetensors")) if path.is_dir() else [path]
    tensors: dict[str, Tensor] = {}
    with mendable(path):
        for file in files:
            place = file.relative_to(path).with_suffix("") if path.is_dir() else Path()
            parts = [part for part in place.parts if not part.startswith("diffusion_pytorch_model")]
            try:
                tensors |= {".".join([*parts, key]): value for key, value in load_file(file).items()}
            except Exception as error:
                raise UserError(f"{INIT}: {file} is no whole .safetensors ({error})") from error
    return tensors
