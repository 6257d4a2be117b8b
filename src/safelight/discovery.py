"""Methods and networks by name: files of this package, installed entry points, or a Python file by path.

Only by naming a file does a recipe run code from outside; stderr names the file before it runs.
"""

from __future__ import annotations

import hashlib
import os
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from safelight import files, networks
from safelight.config import Tree, UserError, nearest, shortened
from safelight.terminal import say


@dataclass(frozen=True)
class Outside:
    """Code that is not safelight's own, as it was run."""

    module: ModuleType
    origin: str  # path of the file, or name of the installed package
    version: str  # SHA-256 of the file that was run, or the package's version


def modules(package: ModuleType) -> list[str]:
    """Names of the files of a package, without importing them."""
    return sorted(info.name for info in pkgutil.iter_modules(package.__path__))


@cache
def network_configs() -> dict[str, type[Any]]:
    """The configuration class of every network of safelight, by the name that a recipe states."""
    files = [import_module(f"{networks.__name__}.{name}") for name in modules(networks)]
    classes = [value for file in files for value in vars(file).values() if hasattr(value, "build")]
    return {config.model_fields["name"].default: config for config in classes}


def network_config(name: object, key: str, outside: dict[str, Outside]) -> type[Any]:
    """The configuration class of a network: safelight's, or `Config` of a module that `module` finds."""
    if isinstance(name, str) and name in network_configs():
        return network_configs()[name]
    config: type[Any] | None = getattr(module(networks, name, key, outside), "Config", None)
    if config is None:
        raise UserError(f"{key}: {name} has no class Config with a build; see networks/unet.py")
    return config


def module(package: ModuleType, name: object, key: str, outside: dict[str, Outside]) -> ModuleType:
    """What a name stands for: `unet`, an entry point of the group `safelight.networks`, or `mine.py`.

    key: of the recipe, for the error. outside: what was run before, which is not run again, so that a file
    may be edited while a run trains; what is run now is added. Raises UserError for a name that is unknown.
    """
    shipped = list(network_configs()) if package is networks else modules(package)
    if not isinstance(name, str):
        raise UserError(f"{key}: {shortened(name)} is not a name{nearest('', shipped)}")
    if name in shipped:
        return import_module(f"{package.__name__}.{name}")
    known = f"{package.__name__}: {name}"
    if known not in outside:
        if _refuses:
            raise UserError(f"{key}: {shortened(name)} is code from outside safelight, and is not run for "
                            f"{_refuses[-1]}; read it, then add --trust-code")  # fmt: skip
        installed = {point.name: point for point in entry_points(group=package.__name__)}
        if name.endswith(".py"):
            outside[known] = _file(Path(name), key)
        elif name in installed:
            outside[known] = _installed(installed[name], key)
        else:
            raise UserError(f"{key}: {shortened(name)} does not exist{nearest(name, [*shipped, *installed])}")
    return outside[known].module


def _file(path: Path, key: str) -> Outside:
    """A Python file of the user, run once for each content it has; stderr says so first.

    It is compiled from the bytes that were hashed: an import might run an older copy from a cache.
    """
    try:
        text = files.read(path)
    except OSError as error:
        raise UserError(f"{key}: {path} cannot be read ({error.strerror or error})") from error
    digest = hashlib.sha256(text).hexdigest()
    name = f"safelight_own_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}_{digest[:12]}"
    if name not in sys.modules:
        if os.environ.get("LOCAL_RANK", "0") == "0":  # of several processes on a machine, one speaks
            say(f"safelight: runs the code of {path} (sha256 {digest[:12]})", err=True)
        made = ModuleType(name)
        made.__file__ = str(path)
        sys.modules[name] = made  # where dataclasses and pydantic look a class's module up
        try:
            exec(compile(text, path, "exec"), vars(made))
        except Exception as error:
            del sys.modules[name]
            raise UserError(f"{key}: {path} failed to load ({type(error).__name__}: {error})") from error
    return Outside(sys.modules[name], str(path), digest)


def _installed(point: EntryPoint, key: str) -> Outside:
    """What an installed package offers under a name: a module like those of methods/ and networks/."""
    origin, version = (point.dist.name, point.dist.version) if point.dist else (point.module, "")
    try:
        loaded = point.load()
    except Exception as error:
        raise UserError(f"{key}: {origin} failed to load ({type(error).__name__}: {error})") from error
    if not isinstance(loaded, ModuleType):
        raise UserError(f"{key}: {point.value} of {origin} is not a module; its entry point should name one")
    return Outside(loaded, origin, version)


def method_class(module: ModuleType) -> type[Any]:
    """The class of a module that is a method: it has phases to declare and a way to sample.

    Raises UserError where there is none.
    """
    for value in vars(module).values():
        if isinstance(value, type) and value.__module__ == module.__name__ and hasattr(value, "Sampling"):
            return value
    raise UserError(f"{module.__file__}: has no class with Config, Sampling, phases; see docs/one-batch.md")


_refuses: list[str] = []  # for what no code from outside is run now


@contextmanager
def nothing_outside(what: str) -> Iterator[None]:
    """Run no code from outside safelight, in the whole process: a recipe that names some raises UserError."""
    _refuses.append(what)
    try:
        yield
    finally:
        _refuses.remove(what)


def from_folder(tree: Tree, folder: Path) -> Tree:
    """The tree with the Python files it names made absolute, seen from the folder of the recipe."""

    def absolute(key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: absolute(name, part) for name, part in value.items()}
        is_file = key == "name" and isinstance(value, str) and value.endswith(".py")
        return str((folder / Path(value).expanduser()).absolute()) if is_file else value

    sections = ("method", "network")
    return {key: absolute("", value) if key in sections else value for key, value in tree.items()}
