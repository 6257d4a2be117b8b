"""Every key of a recipe with its meaning: docs/recipe.md, and what `safelight new --full` writes.

`python -m safelight.keys > docs/recipe.md` writes the page. All of it comes from the models: a key's meaning
is the docstring under its field. `python -m safelight.keys checks > docs/checks.md` writes every finding of
the checks, by the `Code`s in their modules.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from itertools import pairwise
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from safelight import methods, recipes
from safelight.data.config import LatentsConfig
from safelight.discovery import method_class, modules, network_configs
from safelight.engine.plan import Optim, Ramp
from safelight.monitor.remedies import toml
from safelight.recipe import SECTIONS, Recipe, load

if TYPE_CHECKING:
    from safelight.checks.bench.finding import Code

INTRO = """# Every key of a recipe

This page is made from the models by `python -m safelight.keys`. A recipe states what differs from the
defaults here. `safelight new my.toml --from digits` writes a short recipe to edit; `--full` adds every key
with its meaning. On the command line `KEY=VALUE` changes a key, such as `optim.lr=1e-4`. The `recipe.toml`
of a run has every key.

Keys of `[network]` belong to the network named there, keys of `[method]` and `[sample]` to the method. A
method with several networks has a section for each, such as `[network.generator]`; `[optim]` may be split
likewise.
"""

CHECKS_INTRO = """# Every finding of the checks

This page is made from the checks by `python -m safelight.keys checks`. Each finding states its severity, its
check, and the commands that run it: `train` runs the quick checks before the first step, `safelight check`
runs all of them. A recipe may expect a finding: `[check] expected_findings.CODE = "reason"`.
"""


@cache
def meanings(model: type[BaseModel]) -> dict[str, str]:
    """The docstring under each field of a model, on one line."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(definition, ast.ClassDef)
    meanings = {}
    for field, text in pairwise(definition.body):
        match field, text:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(words))),
            ):
                meanings[name] = " ".join(words.split())
    return meanings


def full(recipe: Recipe) -> str:
    """A recipe as TOML with every key and its meaning; keys without a value are commented out."""
    blocks = [f"# {recipe.name}: every key, with its meaning."]
    for header, section, stated in _sections(recipe):
        lines = [f"[{header}]"]
        fields = type(section).model_fields if section else dict.fromkeys(stated)
        for key, field in fields.items():
            if isinstance(getattr(section, key, None), BaseModel):
                continue  # a section of its own
            name = field.alias if field and field.alias else key
            if section and field and key != "name":
                choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
                one_of = f" One of {', '.join(map(str, choices))}." if choices else ""
                words = meanings(type(section))[key] + one_of
                lines += textwrap.wrap(words, 108, initial_indent="# ", subsequent_indent="# ")
            lines.append(f"{name} = {toml(stated[name])}" if name in stated else f"# {name} =")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _sections(recipe: Recipe) -> Iterator[tuple[str, BaseModel | None, Mapping[str, Any]]]:
    """The header, model and values of each section; weights have no model."""
    tree = recipe.tree | {"check": recipe.check.model_dump(mode="json", exclude_none=True)}
    tree["init"] = recipe.init.model_dump(mode="json", by_alias=True, exclude_none=True)
    several = {"network": recipe.networks, "optim": recipe.optim}
    models = {"method": recipe.method_config}
    for name in SECTIONS:
        if name == "loss":
            yield "loss.weights", None, tree["loss"]["weights"]
        elif name in several and isinstance(next(iter(tree[name].values())), dict):
            for part, model in several[name].items():
                yield f"{name}.{part}", model, tree[name][part]
        else:
            model = next(iter(several[name].values())) if name in several else models.get(name)
            yield name, model or getattr(recipe, name), tree[name]
        if name == "data" and recipe.data.latents:
            yield "data.latents", recipe.data.latents, tree["data"]["latents"]


def page() -> str:
    """docs/recipe.md."""
    parts = [INTRO]
    for name in SECTIONS:
        match name:
            case "network":
                parts.append("## [network]\n")
                for network, config in sorted(network_configs().items()):
                    parts.append(f"### {network}\n\n{_table(config)}")
            case "method":
                parts.append("## [method] and [sample]\n")
                parts += [_family(method) for method in modules(methods)]
            case "loss":
                parts.append(
                    "## [loss.weights]\n\nA weight for each loss component of the method: a number, "
                    "or a ramp such as `{begin = 0.0, end = 1.0, after = 0, over = 1000}`.\n\n" + _table(Ramp)
                )
            case "sample":
                pass
            case _:
                model: Any = Optim if name == "optim" else Recipe.model_fields[name].annotation
                parts.append(_titled(f"## [{name}]", model))
        if name == "data":
            parts.append(_titled("## [data.latents]", LatentsConfig))
    return "\n".join(parts)


def check_codes() -> list[tuple[Code, str]]:
    """Every finding of the checks, and what runs it, by name."""
    from safelight.checks.bench import resume
    from safelight.checks.bench.finding import Code
    from safelight.checks.bench.runner import discovered, name_of

    pairs = [
        (code, f"{name_of(check)}, {'train and check' if check.FAST else 'check'}")
        for check in discovered()
        for code in vars(check).values()
        if isinstance(code, Code)
    ]
    codes = [*pairs, *((code, "resume, where it ends the run") for code in resume.CODES)]
    return sorted(codes, key=lambda pair: pair[0].name)


def checks_page() -> str:
    """docs/checks.md."""
    parts = [CHECKS_INTRO]
    for code, command in check_codes():
        parts.append(f"\n## {code.name}\n\n{code.severity.capitalize()} ({command}).\n\n")
        texts = (("What", code.what), ("Why", code.why), ("How to fix", code.fix))
        parts.append("".join(f"- **{title}.** {_sentence(text)}\n" for title, text in texts))
    return "".join(parts)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}."


def _family(name: str) -> str:
    method = method_class(import_module(f"{methods.__name__}.{name}"))
    shipped = [recipe for recipe in map(load, recipes.names()) if recipe.method_class is method]
    components = dict.fromkeys(component for recipe in shipped for component in recipe.weights)
    facts = {
        "Networks": (*method.roles, *getattr(method, "optional_roles", ())),
        "Loss components": components,
        "Recipes": [recipe.name for recipe in shipped],
    }
    lines = "\n".join(f"- {title}: {', '.join(names)}" for title, names in facts.items())
    sampling = f"\n`[sample]`\n\n{_table(method.Sampling)}" if method.Sampling.model_fields else ""
    return f"### {name}\n\n{lines}\n\n`[method]`\n\n{_table(method.Config)}{sampling}"


def _titled(title: str, model: type[BaseModel]) -> str:
    before, colon, after = " ".join((model.__doc__ or "").split()).partition("]: ")
    about = after if colon else before
    return f"{title}\n\n{about[:1].upper()}{about[1:]}\n\n{_table(model)}"


def _table(model: type[BaseModel]) -> str:
    words, defaults = meanings(model), model.model_construct().model_dump(mode="json", exclude_none=True)
    lines = ["| key | default | values | meaning |", "|---|---|---|---|"]
    for key, field in model.model_fields.items():
        if key != "name":
            default = (
                "required" if field.is_required() else f"`{toml(defaults[key])}`" if key in defaults else ""
            )
            lines.append(
                f"| `{field.alias or key}` | {default} | {values(field.annotation, field)} | {words[key]} |"
            )
    return "\n".join(lines) + "\n"


def values(kind: Any, limits: FieldInfo | None = None) -> str:
    """The values of a type in words, such as "whole number, at least 1"."""
    arguments = get_args(kind)
    match get_origin(kind) or kind:
        case origin if origin is Annotated:
            fields = [extra for extra in arguments[1:] if isinstance(extra, FieldInfo)]
            return values(arguments[0], next(iter(fields), limits))
        case origin if origin is Literal:
            return ", ".join(map(str, arguments))
        case origin if origin in (Union, UnionType):
            parts = (values(part, limits) for part in arguments if part is not type(None))
            return " or ".join(dict.fromkeys(parts))
        case origin if origin is tuple:
            length = "list" if arguments[-1] is ... else f"list of {len(arguments)}"
            return f"{length}: {values(arguments[0])}"
        case origin if origin is bool:
            return "true, false"
        case origin if origin in (int, float):
            return ", ".join(["whole number" if origin is int else "number", *_bounds(limits)])
        case origin if issubclass(origin, (BaseModel, dict)):
            return "section"
    return "text"


def _bounds(limits: FieldInfo | None) -> list[str]:
    """Limits of a number in words: ["1 to 256"], ["above 0", "below 1"]."""
    known = {name: getattr(limit, name) for limit in (limits.metadata if limits else ())
             for name in ("ge", "gt", "le", "lt") if hasattr(limit, name)}  # fmt: skip
    if {"ge", "le"} <= known.keys():
        return [f"{known['ge']:,} to {known['le']:,}"]
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return [f"{words[name]} {value:,}" for name, value in known.items()]


if __name__ == "__main__":
    sys.stdout.write(checks_page() if sys.argv[1:] == ["checks"] else page())
