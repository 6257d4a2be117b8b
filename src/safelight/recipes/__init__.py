"""Shipped recipes: one short TOML file each; none inherits from another."""

from __future__ import annotations

from pathlib import Path

from safelight.config import UserError, nearest

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The shipped recipes."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def path(name: str) -> Path:
    """The file of a shipped recipe. Raises UserError for an unknown name."""
    if name not in names():
        raise UserError(f"{name}: no such recipe{nearest(name, names())}; a file of yours ends in .toml")
    return FOLDER / f"{name}.toml"
