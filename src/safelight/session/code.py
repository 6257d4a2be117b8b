"""Which code a session runs."""

from __future__ import annotations

from functools import cache
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path

from safelight.recipes.recipe import Recipe


def code_facts(recipe: Recipe) -> dict[str, str]:
    """The version, a digest of the package's source, and the code from outside that the recipe runs."""
    outside = {one.origin: one.version for one in recipe.outside.values()}
    return {"safelight": version("safelight"), "source": _source(), **outside}


@cache
def _source() -> str:
    """A digest of the package's Python source, which tells edited installs apart."""
    digest = blake2b(digest_size=12)
    root = Path(__file__).parents[1]
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
