"""Words of strangers in Markdown: nothing they write can become markup, a link or HTML."""

from __future__ import annotations

import re

ACTIVE = re.compile(r"([\\`*_\[\]<>|#~&$])")


class Verbatim(str):
    """Markdown that is already safe: `finalize` leaves it as it is."""


def finalize(value: object) -> str:
    """What Jinja2 prints for every expression of a Markdown template: escaped unless Verbatim.

    Backslashes before whatever is active in CommonMark or GitHub's tables, and one line: a line break
    could open a heading, a list or HTML.
    """
    if isinstance(value, Verbatim):
        return value
    line = " ".join(str(value).split())
    line = ACTIVE.sub(r"\\\1", line)
    line = re.sub(r"^([-+=])", r"\\\1", line)  # would open a list or underline a heading
    line = re.sub(r"^(\d+)([.)] )", r"\1\\\2", line)  # would number a list
    return re.sub(r"(?i)(https?|ftp|www)(?=[:.])", r"\1\\", line)  # GitHub makes links of bare addresses


def code(value: object) -> Verbatim:
    """A code span on one line, fenced by more backticks than it holds, its bars escaped for tables."""
    line = " ".join(str(value).split()).replace("|", "\\|")
    if not line:
        return Verbatim("")
    fence = "`" * (_longest_run(line) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return Verbatim(f"{fence}{pad}{line}{pad}{fence}")


def code_block(value: object) -> Verbatim:
    """A fenced block, its fence longer than any run of backticks inside."""
    text = str(value).strip("\n")
    fence = "`" * max(3, _longest_run(text) + 1)
    return Verbatim(f"{fence}\n{text}\n{fence}")


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)
