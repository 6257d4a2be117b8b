"""`safelight explain CODE`: findings, verdicts, metrics, errors, and the keys of a recipe.

Texts of verdicts, metrics and errors are in explanations.toml. `python -m safelight.explain verdicts >
docs/verdicts.md` writes a page; metrics and errors likewise.
"""

from __future__ import annotations

import errno
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from types import TracebackType
from typing import Any

from safelight.config import UserError, nearest

TITLES = {"what": "What", "why": "Why", "fix": "How to fix", "better": "Better", "trap": "Trap"}
KINDS = ("verdicts", "metrics", "errors")


@dataclass(frozen=True)
class Explanation:
    """What a code means. texts: by title, such as "How to fix"."""

    code: str
    kind: str
    texts: Mapping[str, str]
    page: str = ""


@cache
def _file() -> dict[str, Any]:
    return tomllib.loads((files("safelight") / "explanations.toml").read_text(encoding="utf-8"))


def texts() -> dict[str, dict[str, dict[str, Any]]]:
    """explanations.toml: by kind and code."""
    return {kind: _file()[kind] for kind in KINDS}


def of_error(error: BaseException) -> str:
    """The code of a mistake: by the system's error number, or by the module that raised it."""
    errors, number = _file()["errors"], None
    for cause in (error, error.__cause__):
        if isinstance(cause, OSError) and cause.errno is not None:
            number = errno.errorcode.get(cause.errno)
    if code := next(
        (code for code, text in errors.items() if number and number in text.get("errno", ())), ""
    ):
        return code
    if not isinstance(error, UserError):
        return "out-of-memory" if isinstance(error, (MemoryError, RuntimeError)) else "command-line"
    if "pip install" in str(error):
        return "missing-package"
    raised = [code for code in map(of_module, modules_of(error.__traceback__)) if code]
    return raised[-1] if raised else "command-line"


def of_module(module: str) -> str:
    """The code of what a module raises, that of the longest part of its name; "" where there is none."""
    named = {part: code for code, text in _file()["errors"].items() for part in text.get("modules", ())}
    words = module.removeprefix("safelight.").split(".")
    parts = (".".join(words[:length]) for length in range(len(words), 0, -1))
    return next((named[part] for part in parts if part in named), "")


def modules_of(traceback: TracebackType | None) -> Iterator[str]:
    """Modules of safelight that an error went through, that which raised it last.

    Two hand on what others got wrong: `store.durable.mendable`, `config.check`.
    """
    while traceback:
        name = traceback.tb_frame.f_globals.get("__name__", "")
        if name.startswith("safelight.") and name != "safelight.store.durable":
            yield name
        traceback = traceback.tb_next


def explain(code: str) -> list[Explanation]:
    """What a code means; several where networks or methods have a key of the same name. Raises UserError."""
    slug = slugged(code)
    for kind, entries in texts().items():
        for name, entry in entries.items():
            names = [slugged(pattern) for pattern in entry.get("names", ())]
            if slug == name or any(fnmatchcase(slug, pattern) for pattern in names):
                return [_of_text(kind, name, entry)]
    for checks, found in findings().items():
        if slug == checks:
            return [found]
    if matches := [found for found in recipe_keys() if code in (found.code, found.code.rpartition(".")[2])]:
        return matches
    known = [name for group in codes().values() for name in group] + [found.code for found in recipe_keys()]
    raise UserError(f"{code}: nothing has this code{nearest(slug, known)}; `safelight explain` lists them")


def codes() -> dict[str, list[str]]:
    """Every code by kind, without the keys of a recipe."""
    listed = {kind: [*entries] for kind, entries in texts().items()}
    return {"findings of the checks": sorted(findings()), **listed}


def slugged(code: str) -> str:
    """ "mode collapse" as "mode-collapse"."""
    return code.strip().lower().replace(" ", "-")


def _of_text(kind: str, name: str, entry: Mapping[str, Any]) -> Explanation:
    shown = {title: entry[key] for key, title in TITLES.items() if key in entry}
    return Explanation(name, kind.removesuffix("s"), shown, f"docs/{kind}.md#{name}")


@cache
def findings() -> dict[str, Explanation]:
    """Every finding of the checks."""
    from safelight.checks.bench.finding import page
    from safelight.keys import check_codes

    return {
        code.name: Explanation(
            code.name,
            "finding",
            {"What": code.what, "Why": code.why, "How to fix": code.fix},
            page(code.name),
        )
        for code, _ in check_codes()
    }


@cache
def recipe_keys() -> list[Explanation]:
    """Every key of a recipe, from the page of all keys."""
    from safelight.keys import page

    found, section, part = [], "", ""
    for line in page().splitlines():
        if match := re.match(r"## \[(.*?)\]", line):
            section = part = match[1]
        elif line.startswith("### "):
            part = f"{section} of {line[4:]}"
        elif match := re.match(r"`\[(.*)\]`$", line):
            section = match[1]
            part = f"{section} of {part.rpartition(' of ')[2]}"
        elif match := re.match(r"\| `(.+?)` \| (.*?) \| (.*) \| (.*) \|$", line):
            key, default, values, meaning = match.groups()
            shown = {
                "What": meaning,
                "Values": values,
                "Default": default.strip("`") or "none",
                "In": f"[{part}]",
            }
            found.append(Explanation(f"{section}.{key}", "key", shown, "docs/recipe.md"))
    return found


def written(kind: str) -> str:
    """docs/verdicts.md, docs/metrics.md or docs/errors.md."""
    made = f"`safelight explain CODE` shows an entry. `python -m safelight.explain {kind}` made this page."
    parts = [_file()["pages"][kind].strip(), made]
    for name, entry in texts()[kind].items():
        names = ", ".join(f"`{pattern.replace('*', '...')}`" for pattern in entry.get("names", ()))
        shown = [f"- **{title}.** {text[0].upper()}{text[1:].removesuffix('.')}."
                 for title, text in _of_text(kind, name, entry).texts.items()]  # fmt: skip
        parts.append("\n".join([f"## {name}\n", *([f"Columns: {names}\n"] if names else []), *shown]))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.stdout.write(written(sys.argv[1]))
