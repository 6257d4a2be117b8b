"""Hand runs to others, and open what others hand over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safelight.api import directory_of, folder_of, silent
from safelight.run import Run
from safelight.sharing import opened as opening
from safelight.sharing import pack
from safelight.sharing.archive import Manifest
from safelight.types import Tell

if TYPE_CHECKING:
    from safelight.api import Named


def share(
    run: Named,
    out: str | Path,
    *,
    holds: Sequence[str] = (),
    sign: str | Path | None = None,
    runs: str | Path | None = None,
) -> Manifest:
    """Write a run, and those it came from, as one file that ends in .slr, under 1 MB without weights.

    holds: "weights", "tape" and "data" as well. sign: an ssh key to sign it with.
    """
    return pack.share(directory_of(run, runs), Path(out), holds, Path(sign) if sign else None)


@contextmanager
def open_shared(
    path: str | Path, *, signer: str | Path | None = None, trust_code: bool = False
) -> Iterator[opening.Opened]:
    """Open and check a shared run: `with sl.open_shared("run.slr") as shared`.

    signer: a file of public ssh keys, of which one has to have signed it. trust_code: run methods and
    networks from outside safelight that its recipe names.
    """
    with opening.opened(Path(path), Path(signer) if signer else None, trust_code) as shared:
        yield shared


def replay_shared(
    shared: opening.Opened, step: int, places: Mapping[str, Any] | None = None, *, tell: Tell = silent
) -> opening.Replayed:
    """Recompute a shared run up to a step: exact, or where it first differs. places: {"data.path": ...}."""
    return opening.replay_step(shared, step, places or {}, tell)


def keep_shared(shared: opening.Opened, name: str | None = None, *, runs: str | Path | None = None) -> Run:
    """Put a shared run among those of a folder, and open it; it needs its weights to be sampled."""
    return Run(opening.keep(shared, folder_of(runs), name))
