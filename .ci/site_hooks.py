"""Hooks of mkdocs: pages that are made from the code and from files outside docs/.

`mkdocs build --strict` writes site/. Pages of docs/ that mkdocs.yml does not list become how-tos. A link to a file
that is no page becomes its path in code font: there is no place on the net to point to yet.
"""

from __future__ import annotations

import posixpath
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "src"))
OUTSIDE = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md",
           "benchmarks/README.md": "benchmarks.md"}  # fmt: skip
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def on_config(config: Any) -> Any:
    """Pages of docs/ that nav does not list go to the how-tos."""
    text = str(config.nav)
    (howtos,) = (section["How-tos"] for section in config.nav if "How-tos" in section)
    howtos += sorted(path.name for path in (ROOT / "docs").glob("*.md") if f"'{path.name}'" not in text)
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made."""
    for source, page in OUTSIDE.items():
        text = rebased((ROOT / source).read_text(encoding="utf-8"), posixpath.dirname(source))
        files.append(File.generated(config, page, content=text))
    files.append(File.generated(config, "commands.md", content=commands()))
    files.append(File.generated(config, "recipes.md", content=recipes()))
    return files


def on_page_markdown(text: str, page: Any, config: Any, files: Any) -> str:
    """Links out of docs/ point to the pages made of them, or become code."""
    here = posixpath.dirname(page.file.src_uri)

    def mended(match: re.Match[str]) -> str:
        bang, words, target = match.groups()
        path, _, anchor = target.partition("#")
        if not path or "://" in target or target.startswith("mailto:"):
            return match[0]
        place = posixpath.normpath(posixpath.join("docs", here, path))
        if place in OUTSIDE:
            up = posixpath.relpath(OUTSIDE[place], here or ".")
            return f"{bang}[{words}]({up}{'#' + anchor if anchor else ''})"
        if place.startswith("docs/"):
            return match[0]
        return words if words.strip("`") == place else f"{words} (`{place}`)"

    return outside_code(text, lambda part: LINK.sub(mended, part))


def rebased(text: str, folder: str) -> str:
    """A page of another folder, with its links as a page of docs/ has them."""

    def moved(match: re.Match[str]) -> str:
        bang, words, target = match.groups()
        if "://" in target or target.startswith("#"):
            return match[0]
        path, hashed, anchor = target.partition("#")
        place = posixpath.relpath(posixpath.normpath(posixpath.join(folder, path)), "docs")
        return f"{bang}[{words}]({place}{hashed}{anchor})"

    return outside_code(text, lambda part: LINK.sub(moved, part))


def outside_code(text: str, change: Any) -> str:
    """A page with what is no code block changed."""
    parts = re.split(r"(^ *```.*?^ *```)", text, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if place % 2 else change(part) for place, part in enumerate(parts))


def commands() -> str:
    """Every command with its help, arguments, options and examples: from the command line itself."""
    from safelight.cli import COMMANDS, load

    parts = ["# Every command\n\nMade from the command line: `safelight COMMAND --help` shows the same."]
    titles: dict[str, list[str]] = {}
    for title, names in COMMANDS.values():
        titles.setdefault(title, []).extend(names)
    for title, names in titles.items():
        parts.append(f"## {title}")
        for name in names:
            command = load(name)
            parts.append(described(f"safelight {name}", command))
            parts += [described(f"safelight {name} {word}", sub)
                      for word, sub in getattr(command, "commands", {}).items()]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def recipes() -> str:
    """Every shipped recipe: what it trains, its size, what it costs, the command. Those that a CPU trains come first."""
    rows = []
    for path in (ROOT / "src/safelight/recipes").glob("*.toml"):
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
        about, data = tree["about"], tree.get("data", {})
        mine = data.get("source") in ("folder", "coco") and "path" not in data
        command = f"safelight train {path.stem}{' data.path=FOLDER' if mine else ''}"
        rows.append(("CPU" not in about["time"], path.stem, about["title"], about["size"], about["time"], command))
    lines = [f"| `{name}` | {cell(title)} | {size} | {time} | `{command}` |"
             for _, name, title, size, time, command in sorted(rows)]  # fmt: skip
    head = "# Every recipe\n\nMade from the recipes. [What some of them made](gallery.md).\n\n"
    return head + "\n".join(["| recipe | trains | size | time | command |", "|---|---|---|---|---|", *lines]) + "\n"


def described(path: str, command: Any) -> str:
    """A command as Markdown."""
    context = command.make_context(path, [], resilient_parsing=True)
    usage = " ".join(command.collect_usage_pieces(context))
    rows = filter(None, (param.get_help_record(context) for param in command.params if param.name != "help"))
    table = "\n".join(
        ["| | |", "|---|---|", *(f"| `{cell(name)}` | {cell(words)} |" for name, words in rows)]
    )
    example = [line for line in (command.epilog or "").splitlines() if line.startswith("safelight ")]
    shown = "```\n" + "\n".join(example or [f"{path}"]) + "\n```"
    help_ = " ".join((command.help or "").split("\f")[0].split())
    return f"### {path}\n\n{help_}\n\n`{path} {usage}`\n\n{table}\n\n{shown}"


def cell(text: str) -> str:
    """Text in a table's cell."""
    return " ".join(text.split()).replace("|", "\\|")


LOADS = re.compile(
    r"""<(?:script|img|iframe|source|video)\b[^>]*\bsrc="((?:https?:)?//[^"]*)|"""
    r"""<link\b(?=[^>]*rel="(?:stylesheet|preload|icon|preconnect|dns-prefetch)")[^>]*href="((?:https?:)?//[^"]*)|"""
    r"""(?:url\(|@import\s*)["']?((?:https?:)?//[^)"']*)"""
)


def on_post_build(config: Any) -> None:
    """Raises where a page would load anything from elsewhere: the site makes no external request."""
    loads = {
        f"{path.relative_to(config.site_dir)}: {next(filter(None, match.groups()))}"
        for path in Path(config.site_dir).rglob("*.*")
        if path.suffix in (".html", ".css")
        for match in LOADS.finditer(path.read_text(encoding="utf-8"))
    }
    if loads:
        raise SystemExit("\n".join(["pages that load from elsewhere:", *sorted(loads)]))
