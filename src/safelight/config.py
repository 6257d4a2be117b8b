"""Reading, overriding and checking recipes: TOML in, pydantic models out, one clear line when it is wrong.

This module knows no section by name; each section's model is owned by the component that reads it.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import shlex
import sys
import tomllib
from collections.abc import Iterable, Mapping
from importlib.metadata import requires
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, core_schema

from safelight import files

Tree = dict[str, Any]
ModelT = TypeVar("ModelT", bound=BaseModel)
LISTED = 20  # names that a line can take
LONGEST = 4096  # characters of a text, as of a path
MOST, DEEPEST = 10_000, 16  # values of a list, sections within sections
SHOWN = 80  # characters of a wrong value that a line repeats


Size = Annotated[int, Field(ge=1, le=2**16)]  # channels
Depth = Annotated[int, Field(ge=1, le=256)]  # layers


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


def install(extra: str) -> str:
    """The command that installs what an extra needs, wherever safelight itself came from."""
    ends = re.compile(rf";\s*extra\s*==\s*['\"]{re.escape(extra)}['\"]\s*$")
    packages = [ends.sub("", line).strip() for line in requires("safelight") or () if ends.search(line)]
    return shlex.join([sys.executable, "-m", "pip", "install", *packages])


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
    except (ValueError, RecursionError) as error:  # also of digits and brackets that Python does not count
        raise UserError(f"{path}: is not valid TOML ({error})") from error


def parse_override(text: str) -> tuple[str, Any]:
    """`("optim.lr", 0.0001)` from "optim.lr=1e-4". A value that is not TOML is taken as a string."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise UserError(f"{shortened(text)}: expected key=value, for example optim.lr=1e-4")
    try:
        tree = tomllib.loads(f"value = {value}")
    except (ValueError, RecursionError):  # also of digits and brackets that Python does not count
        tree = {}
    return name.strip(), tree["value"] if len(tree) == 1 else value.strip()


def shortened(value: Any) -> str:
    """A value in a line about it."""
    try:
        text = repr(value)
    except ValueError:  # Python does not spell out numbers of more than 4,300 digits
        return "a number without end"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text):,} characters)"


def sane(value: Any, where: str, depth: int = 0) -> None:
    """Raises UserError for what no recipe means: NaN, NUL, numbers, texts and lists beyond all measure."""
    problem = None
    match value:
        case int() if abs(value) >= 2**63:
            problem = "is too large"
        case float() if not math.isfinite(value):
            problem = "is no finite number"
        case str() if len(value) > LONGEST:
            problem = f"is too long; at most {LONGEST:,} characters"
        case str() if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            problem = "holds a character that is no text"
        case Mapping() | list() | tuple() if depth > DEEPEST or len(value) > MOST:
            raise UserError(f"{where or 'the recipe'}: is more than {MOST:,} values or {DEEPEST} levels")
        case Mapping():
            for key, item in value.items():
                sane(key, where, depth)
                sane(item, f"{where}.{key}".strip("."), depth + 1)
        case list() | tuple():
            for item in value:
                sane(item, where, depth + 1)
    if problem:
        raise UserError(f"{where}: {shortened(value)} {problem}")


def override(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> Tree:
    """A copy of the tree with dotted keys set. Raises UserError where a key runs through a value."""
    result: Tree = {name: override(value, {}) if isinstance(value, dict) else value
                    for name, value in tree.items()}  # fmt: skip
    for dotted, value in changes.items():
        *sections, last = dotted.split(".")
        if len(sections) > DEEPEST:
            raise UserError(f"{shortened(dotted)}: no such key")
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
        nested = isinstance(value, Mapping) and value
        flat |= flatten(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return flat


def check(model: type[ModelT], tree: Any, where: str, given: Tree | None = None) -> ModelT:
    """The tree as a model. Raises UserError: one line with the first wrong key and how to fix it.

    where: the dotted name of the section, "" for the whole recipe. given: fields that no recipe states.
    """
    if not isinstance(tree, Mapping):
        raise UserError(f"{where}: expected a section [{where}], found {shortened(tree)}")
    sane(tree, where)
    try:
        return model.model_validate({**tree, **(given or {})})
    except ValidationError as error:
        raise UserError(_one_line(model, error, where)) from error


def _one_line(model: type[BaseModel], error: ValidationError, where: str) -> str:
    problem = error.errors()[0]
    wrong = shortened(problem["input"])
    location = [str(part) for part in problem["loc"]]
    name = ".".join([where, *location]).strip(".")
    match problem["type"]:
        case "extra_forbidden":
            known = (".".join([where, *location[:-1], key]).strip(".") for key in _keys(model, location[:-1]))
            return f"{name}: no such key{nearest(name, known)}"
        case "missing":
            return f"{name}: is missing; add it to the recipe"
        case "value_error":
            words = str(problem["ctx"]["error"])[:400]
            return f"{name}: {words}" if name else words
        case "literal_error":
            choices = re.split(r"(?:, | or )(?=['\d])", problem["ctx"]["expected"])  # a name may hold " or "
            close = nearest(wrong.strip("'"), [choice.strip(" '") for choice in choices])
            return f"{name}: {wrong} is not a valid choice{close}"
        case "model_type":
            return f"{name}: expected a section [{name}], found {wrong}"
    return f"{name}: {wrong} {problem['msg'].replace('Input should be', 'should be')}"


def _keys(model: type[BaseModel], location: list[str]) -> list[str]:
    """Field names of the (nested) model at a location."""
    for part in location:
        kind = model.model_fields[part].annotation if part in model.model_fields else None
        kinds = [each for each in (kind, *get_args(kind)) if isinstance(each, type)]
        model = next((each for each in kinds if issubclass(each, BaseModel)), BaseModel)
    return [field.alias or key for key, field in model.model_fields.items()]
