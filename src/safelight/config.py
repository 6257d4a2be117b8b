"""Reading, overriding and checking recipes: TOML in, pydantic models out, one clear line when it is wrong.

This module knows no section by name; each section's model is owned by the component that reads it.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, core_schema

from safelight import files

Tree = dict[str, Any]
ModelT = TypeVar("ModelT", bound=BaseModel)
LISTED = 20  # names that a line can take


class UserError(Exception):
    """A mistake the user can mend: one line, shown without a traceback, exit code 2."""


class Section(BaseModel):
    """A section of a recipe: unknown keys are refused, values never change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Reference(str):
    """A value that names what another training made, or weights from elsewhere.

    "recipe:NAME" or "recipe:FILE.toml" is trained first, into the same runs directory; "run:NAME" is a
    finished run; anything else is a path or an id of the Hugging Face Hub. Paths become absolute.
    """

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(cls._made, core_schema.str_schema(min_length=1))

    @classmethod
    def _made(cls, text: str) -> Reference:
        kind, _, name = text.partition(":")
        if kind == "recipe" and name.endswith(".toml"):
            return cls(f"recipe:{_from_root(name)}")
        is_path = kind not in ("recipe", "run") and (text.startswith((".", "/", "~")) or os.path.exists(text))
        return cls(_from_root(text) if is_path else text)


def _from_root(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def nearest(name: str, known: Iterable[str]) -> str:
    """' (did you mean X?)' for the known name nearest to `name`, or the first of the known names."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f" (did you mean {close[0]!r}?)"
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f" (known: {', '.join(names[:LISTED])}{more})" if names else ""


def read_toml(path: Path) -> Tree:
    """The tree of a TOML file. Raises UserError naming the file and the line."""
    try:
        return tomllib.loads(files.read(path).decode())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(f"{path}: is not valid TOML ({error})") from error


def parse_override(text: str) -> tuple[str, Any]:
    """`("optim.lr", 0.0001)` from "optim.lr=1e-4". A value that is not TOML is taken as a string."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise UserError(f"{text!r}: expected key=value, for example optim.lr=1e-4")
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value.strip()


def override(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> Tree:
    """A copy of the tree with dotted keys set. Raises UserError where a key runs through a value."""
    result: Tree = {name: override(value, {}) if isinstance(value, dict) else value
                    for name, value in tree.items()}  # fmt: skip
    for dotted, value in changes.items():
        *sections, last = dotted.split(".")
        place = result
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise UserError(f"{dotted}: {section!r} is a value, not a section")
        place[last] = value
    return result


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Tree:
    """Dotted keys of every leaf: {"optim": {"lr": 1}} -> {"optim.lr": 1}."""
    flat: Tree = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def check(model: type[ModelT], tree: Any, where: str) -> ModelT:
    """The tree as a model. Raises UserError: one line with the first wrong key and its mend.

    where: the dotted name of the section, "" for the whole recipe.
    """
    if not isinstance(tree, Mapping):
        raise UserError(f"{where}: expected a section [{where}], found {tree!r}")
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise UserError(_one_line(model, error, where)) from error


def _one_line(model: type[BaseModel], error: ValidationError, where: str) -> str:
    problem = error.errors()[0]
    location = [str(part) for part in problem["loc"]]
    name = ".".join([where, *location]).strip(".")
    if problem["type"] == "extra_forbidden":
        prefix = [where, *location[:-1]]
        known = (".".join([*prefix, key]).strip(".") for key in _keys(model, location[:-1]))
        return f"{name}: no such key{nearest(name, known)}"
    if problem["type"] == "missing":
        return f"{name}: is missing; add it to the recipe"
    if problem["type"] == "value_error":
        return f"{name}: {problem['ctx']['error']}" if name else str(problem["ctx"]["error"])
    if problem["type"] == "literal_error":
        options = [word.strip(" '") for word in problem["ctx"]["expected"].replace(" or ", ", ").split(", ")]
        return f"{name}: {problem['input']!r} is not one of them{nearest(str(problem['input']), options)}"
    message = problem["msg"].replace("Input should be", "should be")
    return f"{name}: {problem['input']!r} {message}"


def _keys(model: type[BaseModel], location: list[str]) -> list[str]:
    """Field names of the (nested) model at a location."""
    for part in location:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)
