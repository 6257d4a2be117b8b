"""pins.json: checkpoints with a name, which are never let go: "best" is the one an evaluation found best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safelight.config import UserError
from safelight.store import sealed
from safelight.store.durable import Announce, silence, write_bytes
from safelight.store.journal import JournalWriter, counts

FILE = "pins.json"
BEST = "best"


@dataclass(frozen=True)
class Pin:
    """Why a checkpoint is kept."""

    step: int
    why: str  # "FD-classifier 4.31"
    facts: Mapping[str, Any]  # what whoever pinned it has to remember


def read(run: Path) -> dict[str, Pin]:
    """The pins of a run by name; none where there is no file. Raises UserError if it is damaged."""
    if not (run / FILE).exists():
        return {}
    try:
        return {name: Pin(own["step"], str(own["why"]), dict(own["facts"]))
                for name, own in sealed.read(run / FILE)["pins"].items() if counts(own["step"])}  # fmt: skip
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"{run / FILE}: is not written as this safelight does it; delete it") from error


def pin(run: Path, name: str, to: Pin, writer: JournalWriter, announce: Announce = silence) -> None:
    """Give a step a name, in place of the step that had it. Journalled first; may come before its checkpoint.

    Only for whoever holds the run's lock.
    """
    writer.append("pin", {"name": name, "step": to.step, "why": to.why})
    pins = {**read(run), name: to}
    fields = {"pins": {name: asdict(own) for name, own in pins.items()}}
    write_bytes(run / FILE, sealed.pretty(fields), announce, "pins")
