"""The pages of this repository, their code blocks, and the commands in them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

from safelight.cli import load as load_command

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [*ROOT.glob("*.md"), ROOT / "benchmarks/README.md", *sorted(DOCS.rglob("*.md"))]
}
BLOCK = re.compile(r"^( *)```(\S*)[^\n]*\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
WORD = r"""'[^']*'|"[^"]*"|[^&|;>'"]"""
CALL = re.compile(rf"(?:^|.*&& )(?:\S*bin/|.*-m |uvx |\$ )?(safelight (?:{WORD})*)")


def blocks(page: str) -> list[tuple[str, str]]:
    """(language, text) of each code block of a page."""
    return [(language, text) for _, language, text in BLOCK.findall(PAGES[page])]


def commands(page: str) -> list[str]:
    """The safelight commands in a page's blocks, without comments and what a shell does around them."""
    lines = [
        line.partition(" #")[0].strip()
        for _, text in blocks(page)
        for line in re.sub(r" *\\\n *", " ", text).splitlines()
    ]
    found = [match[1].strip() for match in map(CALL.match, lines) if match]
    return [re.sub(r"\$\w+", "1", call) for call in found if not call.startswith("safelight $")]


def parsed(command: str) -> Any:
    """A command line as its command understands it, not run. Raises what a wrong one raises."""
    _, name, *arguments = shlex.split(command)
    at: Any = load_command(name)
    while hasattr(at, "commands"):
        name, *arguments = arguments
        at = at.commands[name]
    return at.make_context(name, arguments)
