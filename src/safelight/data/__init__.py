"""Data: sources, packs that are decoded once, and batches as a function of the step.

Importing this is cheap; torch, Pillow and scikit-learn are imported where data are opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from safelight.data.config import Data

if TYPE_CHECKING:
    from safelight.data.pack import Pack
    from safelight.data.source import Progress, Source

__all__ = ["Data", "open_data"]


def open_data(config: Data, progress: Progress | None = None) -> Pack:
    """The data as a pack: found in the cache, or downloaded, decoded and packed now.

    progress: called with what is being done, how much of it is done, and of how much.
    Raises UserError naming the key or file to mend.
    """
    from safelight.data.packing import open_pack

    return open_pack(find_source(config, progress), config.held_out, config.skip_bad, progress)


def find_source(config: Data, progress: Progress | None = None) -> Source:
    """Where the items come from, not yet decoded; downloads what is missing."""
    from safelight.data import digits, folder, idx

    match config.source:
        case "digits":
            return digits.digits(config)
        case "mnist":
            return idx.published(idx.MNIST, config, progress)
        case "fashion-mnist":
            return idx.published(idx.FASHION_MNIST, config, progress)
        case "folder":
            return folder.folder(config)
