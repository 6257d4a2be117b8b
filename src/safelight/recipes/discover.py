"""Methods and networks by name: files of this package, installed entry points, or a Python file by path.

Naming a file is the one way in which a recipe runs code of its own, and it is said before it happens.
"""

from __future__ import annotations

import hashlib
import importlib.util
import pkgutil
import sys
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from safelight.config import Tree, UserError, nearest


def modules(package: ModuleType) -> list[str]:
    """Names of the files of a package, without importing them."""
    return sorted(info.name for info in pkgutil.iter_modules(package.__path__))


def module(package: ModuleType, name: object, key: str) -> ModuleType:
    """What a name stands for: `unet`, an entry point of the group `safelight.networks`, or `mine.py`.

    key: of the recipe, for the error. Raises UserError for a name that does not exist.
    """
    if isinstance(name, str) and name.endswith(".py"):
        return _own(Path(name), key)
    own = modules(package)
    installed = {point.name: point for point in entry_points(group=package.__name__)}
    if name in own:
        return import_module(f"{package.__name__}.{name}")
    if name in installed:
        loaded = installed[str(name)].load()
        assert isinstance(loaded, ModuleType), f"entry point {name} of {package.__name__} is not a module"
        return loaded
    raise UserError(f"{key}: {name!r} does not exist{nearest(str(name), [*own, *installed])}")


def _own(path: Path, key: str) -> ModuleType:
    """The module of a person's own file, run once; stderr says so first."""
    try:
        digest = sha256(path)
    except OSError as error:
        raise UserError(f"{key}: {path} cannot be read ({error.strerror})") from error
    name = f"safelight_own_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}_{digest[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    print(f"safelight: runs the code of {path} (sha256 {digest[:12]})", file=sys.stderr, flush=True)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    try:
        spec.loader.exec_module(made)
    except Exception as error:
        del sys.modules[name]
        raise UserError(f"{key}: {path} failed to load ({type(error).__name__}: {error})") from error
    return made


def method_class(found: ModuleType) -> type[Any]:
    """The class of a module that is a method: it has phases to declare and a way to sample.

    Raises UserError where there is none.
    """
    for value in vars(found).values():
        if isinstance(value, type) and value.__module__ == found.__name__ and hasattr(value, "Sampling"):
            return value
    raise UserError(f"{found.__file__}: has no class with Config, Sampling and phases; see docs/one-batch.md")


def own_files(tree: Tree) -> list[Path]:
    """The Python files that a recipe names."""
    sections = [tree.get("method", {}), tree.get("network", {}), *tree.get("network", {}).values()]
    names = [section["name"] for section in sections if isinstance(section, dict) and "name" in section]
    return [Path(name) for name in names if isinstance(name, str) and name.endswith(".py")]


def from_folder(tree: Tree, folder: Path) -> Tree:
    """The tree with the Python files it names made absolute, seen from the folder of the recipe."""

    def walk(section: Any) -> Any:
        if not isinstance(section, dict):
            return section
        name = section.get("name")
        walked = {key: walk(value) for key, value in section.items()}
        if isinstance(name, str) and name.endswith(".py"):
            walked["name"] = str((folder / Path(name).expanduser()).absolute())
        return walked

    return {key: walk(value) if key in ("method", "network") else value for key, value in tree.items()}


def sha256(path: Path) -> str:
    """Of a file's bytes, hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
