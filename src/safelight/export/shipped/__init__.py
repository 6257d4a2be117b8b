"""Files that are copied into exported folders, to be opened by other tools. Nothing here imports another."""

from __future__ import annotations

import shutil
from pathlib import Path


def copy_shipped(name: str, folder: Path) -> None:
    """Put a file of shipped/ into an exported folder."""
    shutil.copyfile(Path(str(__file__)).parent / name, folder / name)
