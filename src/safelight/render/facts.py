"""What a report is made of: plain facts, gathered by the session and handed over in one piece."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safelight.render.history import History
from safelight.render.sheet import Images


@dataclass(frozen=True)
class Session:
    """One start of the trainer, until it ended."""

    started: str  # date and time, as it should be printed
    first_step: int
    last_step: int  # exclusive: steps first_step .. last_step - 1 were done
    seconds: float  # wall time of the session
    training_seconds: float  # of which inside steps: no sheets, checkpoints, evaluation
    ended: str = ""  # "finished", "stopped", "killed"
    environment: Mapping[str, str] = field(default_factory=dict)
    # machine, torch, device, precision, memory format, ...: any names, printed in this order


@dataclass(frozen=True)
class SheetFile:
    """A contact sheet saved while the run trained; every sheet shows the same fixed noises."""

    step: int
    path: PurePosixPath  # relative to the run's directory


@dataclass(frozen=True)
class Picture:
    """A figure the report draws: samples, or a panel of the family.

    images: uint8 (rows, columns, H, W, C), C 1 or 3.
    """

    images: Images
    row_labels: tuple[str, ...] = ()
    column_labels: tuple[str, ...] = ()
    caption: str = ""


@dataclass(frozen=True)
class Measurement:
    """A metric with what it needs to be trusted."""

    name: str  # "FD-classifier", "KID"
    value: float
    provenance: str  # extractor and its hash, n, reference split, resize rule, sampler, seed
    step: int | None = None
    floor: float | None = None  # the same metric, real images against real images
    spread: float | None = None  # standard deviation of the value, of a metric that knows it


@dataclass(frozen=True)
class Rate:
    """What a variational autoencoder learned: its numbers with what they mean, and the way there."""

    rows: tuple[tuple[str, str, str], ...]  # (what, value, what it means)
    steps: NDArray[np.int64]  # (n,) at which it was measured
    nats: NDArray[np.float64]  # (n,) KL
    errors: NDArray[np.float64]  # (n,) MSE, of pixel values in [0, 1]
    values: int  # pixel values of an image


@dataclass(frozen=True)
class Reproduce:
    """How to make this run again, and how to know that it is the same."""

    commands: tuple[str, ...] = ()  # in order, exactly as typed
    seed: int | None = None
    data_fingerprint: str = ""
    weights_digest: str = ""  # of a checkpoint
    weights_step: int | None = None  # the step of that checkpoint
    code_version: str = ""
    replay: str = ""  # what reaching any other step takes


@dataclass(frozen=True)
class ReportFacts:
    """Everything a report says. Whatever is empty is left out of it, or said to be missing."""

    name: str
    summary: str = ""  # one sentence: what was trained on what
    written: str = ""  # date of the report
    verdict: tuple[str, ...] = ()  # where the run stands and what is to be known of it, a sentence each
    unmeasured: tuple[str, ...] = ()  # what nothing can be said of, and what would measure it
    recipe: Mapping[str, Any] = field(default_factory=dict)  # resolved, nested by section
    step: int = 0  # steps done
    planned_steps: int | None = None
    history: History = field(default_factory=History)
    sessions: tuple[Session, ...] = ()
    skipped_steps: tuple[int, ...] = ()  # not applied because a gradient was not finite
    sheets: tuple[SheetFile, ...] = ()
    samples: tuple[Picture, ...] = ()
    panels: tuple[Picture, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    rate: Rate | None = None  # of a variational autoencoder
    best: str = ""  # which step samples were best at, and by what, in a sentence
    remarks: tuple[str, ...] = ()  # of pre-flight checks and monitors, one sentence each
    reproduce: Reproduce = field(default_factory=Reproduce)

    @property
    def images_seen(self) -> int:
        """Training images shown to the networks, repetitions counted."""
        return self.step * self.history.batch_size

    @property
    def epochs(self) -> float | None:
        """Times the data was gone through; None where its size is not known."""
        size = self.history.dataset_size
        return self.images_seen / size if size else None

    @property
    def seconds(self) -> float:
        """Wall time of all sessions."""
        return sum(session.seconds for session in self.sessions)

    @property
    def seconds_per_kimg(self) -> float | None:
        """Training seconds per thousand images, over all sessions, repeated steps included.

        None where no session recorded a step.
        """
        steps = sum(session.last_step - session.first_step for session in self.sessions)
        if steps <= 0:
            return None
        training = sum(session.training_seconds for session in self.sessions)
        return training / (steps * self.history.batch_size) * 1000
