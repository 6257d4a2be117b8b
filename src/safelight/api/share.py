"""Hand runs to others, and open what others hand over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safelight.api import directory_of, folder_of, silent
from safelight.run import Run
from safelight.sharing import cite as citing
from safelight.sharing import hub, pack
from safelight.sharing import opened as opening
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


def push(
    run: Named,
    place: str,
    *,
    licence: str,
    private: bool = False,
    out: str | Path | None = None,
    sign: str | Path | None = None,
    runs: str | Path | None = None,
    tell: Tell = silent,
) -> str:
    """Put a run on the Hub at "hub:user/name", with a card made from it; returns its address.

    licence: of the weights, as the Hub calls it, such as "cc-by-4.0". out: a folder to write instead.
    """
    opened, key = Run(directory_of(run, runs), tell=tell), Path(sign) if sign else None
    if out is not None:
        address, lines = str(out), hub.write_folder(opened, place, licence, Path(out), key)
    else:
        address, lines = hub.push(opened, place, licence, private, key)
    for line in lines:
        tell(line)
    return address


def pull(
    place: str,
    *,
    name: str | None = None,
    signer: str | Path | None = None,
    trust_code: bool = False,
    runs: str | Path | None = None,
) -> Run:
    """Make a run of one on the Hub, "hub:user/name" or "hub:user/name@revision", and open it."""
    return Run(hub.pull(place, folder_of(runs), name, Path(signer) if signer else None, trust_code))


def cite(
    run: Named,
    to: str = "bibtex",
    *,
    authors: Sequence[str] = (),
    licence: str | None = None,
    runs: str | Path | None = None,
) -> str:
    """A run for a paper: "bibtex" or "cff", its data as "croissant", its packages as "requirements"."""
    return citing.cite(directory_of(run, runs), to, authors, licence)
