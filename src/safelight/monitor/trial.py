"""A remedy that is tried against a verdict: one at a time, in a fork, and for how long until it is judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from safelight.config import Tree
from safelight.monitor.config import Name
from safelight.monitor.remedies import Remedy, remedies

MOST = 6  # remedies tried along a lineage: after that a person should look


@dataclass(frozen=True)
class Trouble:
    """A verdict that is acted upon."""

    verdict: Name
    step: int  # behind the run that has it
    rescue: int  # before it began: where forks go on from; 0 is the beginning
    until: int  # a fork is judged at its first watch from here on
    measured: str
    expected: str


@dataclass(frozen=True)
class RemedyTrial:
    """One remedy against a trouble."""

    trouble: Trouble
    rank: int  # of the remedy among those of the verdict
    number: int  # of remedies tried along the lineage, this one included
    words: str
    changes: Mapping[str, Any]  # by dotted key of the recipe

    def to_dict(self) -> dict[str, Any]:
        """As the journals of both runs keep it."""
        return {**asdict(self.trouble), "rank": self.rank, "number": self.number, "words": self.words,
                "changes": dict(self.changes)}  # fmt: skip

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> RemedyTrial:
        """What `to_dict` gave, whatever else is beside it."""
        trouble = Trouble(**{name: fields[name] for name in Trouble.__dataclass_fields__})
        return cls(trouble, **{name: fields[name] for name in ("rank", "number", "words", "changes")})

    @property
    def text(self) -> str:
        """ "a stronger gradient penalty against discriminator wins"."""
        return f"{self.words} against {self.trouble.verdict}"


def first_trial(trouble: Trouble, tree: Tree, tried: int) -> tuple[RemedyTrial | None, Sequence[Remedy]]:
    """The first remedy that a fork can have, and those passed over, which need a new run.

    tree: the recipe in force at the verdict. tried: remedies along the lineage so far.
    """
    return _next(RemedyTrial(trouble, -1, tried, "", {}), tree)


def following(trial: RemedyTrial, tree: Tree) -> tuple[RemedyTrial | None, Sequence[Remedy]]:
    """The remedy to try after one that did not help, likewise."""
    return _next(trial, tree)


def given_up(verdict: str, tried: int) -> str:
    """That nothing is left to try, in words."""
    why = f"after {tried} tried along its lineage" if tried else "that a fork could try"
    return f"{verdict}: no remedy left {why}; the run continues unchanged"


def describe(fields: Mapping[str, Any]) -> str:
    """A decision of the journal as a sentence."""
    event, at = fields["event"], f"Step {fields['at']:,}"
    if event == "given up":
        return f"{at}: {given_up(fields['verdict'], fields['number'])}."
    trial = RemedyTrial.of(fields)
    trouble, changes = trial.trouble, ", ".join(f"{key} = {value}" for key, value in trial.changes.items())
    if event == "tried":
        return f"{at}: ended; a fork from step {trouble.rescue:,} tries {trial.text} ({changes})."
    if event == "begun":
        return (
            f"Started at step {trouble.rescue:,} to try {trial.text}, seen in the previous run at step "
            f"{trouble.step:,} ({changes}); remedy {trial.number} of its lineage, judged from step "
            f"{trouble.until:,} on."
        )
    if event == "helped":
        return f"{at}: {trial.words} helped; no longer {trouble.verdict}."
    return f"{at}: {trial.words} did not help ({fields['why']}); ended, back to step {trouble.rescue:,}."


def _next(before: RemedyTrial, tree: Tree) -> tuple[RemedyTrial | None, Sequence[Remedy]]:
    skipped: list[Remedy] = []
    known = remedies(before.trouble.verdict, tree, before.trouble.rescue)
    for rank, remedy in enumerate(known):
        if rank <= before.rank:
            continue
        if not remedy.live:
            skipped.append(remedy)
        elif before.number < MOST:
            number = before.number + 1
            trial = replace(before, rank=rank, number=number, words=remedy.words, changes=remedy.changes)
            return trial, skipped
    return None, skipped
