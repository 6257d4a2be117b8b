"""The page's modules as one script, for a file that has to hold all of it.

Every module becomes a function of what it imports. They are in the style of web/static/, without cycles.
"""

from __future__ import annotations

import re
from pathlib import Path

WEB = Path(__file__).parents[1] / "web"
IMPORT = re.compile(r'^import\s*(?:(\w+)|\{([^}]*)\})\s*from\s*"([^"]+)";?', re.MULTILINE)
LISTED = re.compile(r"export\s*\{([^}]*)\};?")
DEFAULT = re.compile(r"export default ")
REMARK = re.compile(r"^/\*(?!!).*?\*/", re.MULTILINE | re.DOTALL)  # but not a licence
NAMED = re.compile(r"^export (?=(?:async )?(?:const|let|function|class) (\w+))", re.MULTILINE)


def bundle(entry: str) -> str:
    """The script of a module of web/static/ and of everything that it imports, each once."""
    scripts: dict[Path, str] = {}
    _add(WEB / "static" / entry, scripts)
    return "const modules = {};\n" + "\n".join(scripts.values())


def _add(path: Path, scripts: dict[Path, str]) -> None:
    if path in scripts:
        return
    text, exports = REMARK.sub("", path.read_text(encoding="utf-8")), list[str]()

    def bring(match: re.Match[str]) -> str:
        default, names, source = match.groups()
        imported = (path.parent / source).resolve()
        _add(imported, scripts)
        wanted = f"{{ default: {default} }}" if default else f"{{ {names.strip().replace(' as ', ': ')} }}"
        return f'const {wanted} = modules["{imported.name}"];'

    def send(match: re.Match[str]) -> str:
        pairs = (name.split(" as ") for name in match[1].split(",") if name.strip())
        exports.extend(f"{pair[-1].strip()}: {pair[0].strip()}" for pair in pairs)
        return ""

    def name(match: re.Match[str]) -> str:
        exports.append(match[1])
        return ""

    text = text.replace("import.meta.url", '"saved://page/"')  # of no origin, as a file is
    text = NAMED.sub(name, LISTED.sub(send, IMPORT.sub(bring, text)))
    if DEFAULT.search(text):
        text, exports = DEFAULT.sub("const exported = ", text), [*exports, "default: exported"]
    scripts[path] = f'modules["{path.name}"] = (() => {{\n{text}\nreturn {{ {", ".join(exports)} }};\n}})();'
