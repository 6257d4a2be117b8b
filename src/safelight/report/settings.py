"""What differs between runs before anything is measured: settings, interventions, data, code, machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from safelight.config import flatten, override
from safelight.report.basis import worded
from safelight.report.facts import RunFacts

Role = Literal["training", "sampling", "watching"]


ABSENT = "not set"  # a key that the recipe of a run does not have


# Sections that decide what is looked at and kept, not what is trained.
WATCHING = ("watch", "checkpoint", "evaluate", "tape", "monitor", "check")


IGNORED = ("about",)  # words


SEED = "train.seed"


SAID = 3  # differing keys that a label says; where there are more it names a run


@dataclass(frozen=True)
class SettingDifference:
    """A key that is not the same in all runs."""

    key: str
    role: Role  # whether it changes the weights, the samples, or only what is looked at
    values: Mapping[str, str]  # by run, in words


@dataclass(frozen=True)
class SettingEdit:
    """An intervention in a run."""

    run: str
    step: int  # first step that ran with it
    images: int  # seen before it
    key: str
    before: str
    after: str


@dataclass(frozen=True)
class Replicas:
    """Runs of the same settings, but for the seed: what they differ in is chance."""

    label: str  # what tells them from the others: "lr = 0.0003"
    runs: tuple[str, ...]
    values: Mapping[str, str]  # of the keys that differ between groups


def differences(runs: Sequence[RunFacts]) -> tuple[SettingDifference, ...]:
    """Settings that differ, as resolved before interventions, in the order of the recipe."""
    return _differing({run.name: run.settings for run in runs})


def surroundings(runs: Sequence[RunFacts]) -> tuple[SettingDifference, ...]:
    """What differs around the settings: data, code, and what the last session computed with."""
    facts = {}
    for run in runs:
        data = {name: run.data.get(name) for name in ("name", "fingerprint", "train", "held_out", "shape")}
        last = run.sessions[-1].environment if run.sessions else {}
        own = {"data": data, "code": run.code} | ({"environment": last} if last else {})
        facts[run.name] = flatten(own)
    begun = {run.name for run in runs if run.sessions}  # of the others nothing is known to differ
    return tuple(
        one
        for one in _differing(facts)
        if not one.key.startswith("environment") or len({one.values[name] for name in begun}) > 1
    )


def edits(runs: Sequence[RunFacts]) -> tuple[SettingEdit, ...]:
    """Every value changed while a run went on, by run and step."""
    found = []
    for run in runs:
        tree = run.tree
        for one in sorted(run.interventions, key=lambda one: one.step):
            before = aligned({"before": flatten(tree), "after": one.changes})["before"]
            found += [
                SettingEdit(
                    run.name, one.step, one.step * run.batch_size, key, _told(before, key), worded(value)
                )
                for key, value in one.changes.items()
            ]
            tree = override(tree, one.changes)
    return tuple(found)


def replicas(runs: Sequence[RunFacts]) -> tuple[Replicas, ...]:
    """Runs grouped by everything but seed and watching: settings, interventions, data, parent."""
    groups: dict[tuple[object, ...], list[RunFacts]] = {}
    for run in runs:
        groups.setdefault(_identity(run), []).append(run)
    firsts = [own[0] for own in groups.values()]
    apart = [one for one in differences(firsts) if one.role != "watching" and one.key != SEED]
    labelled = []
    for own in groups.values():
        values = {one.key: one.values[own[0].name] for one in apart}
        labelled.append(Replicas(_label(values, own[0].name), tuple(run.name for run in own), values))
    return _told_apart(labelled)


def _label(values: Mapping[str, str], run: str) -> str:
    """ "lr = 0.0003 · width = 32"; the name of a run where too many keys differ to say."""
    if not 1 <= len(values) <= SAID:
        return run
    lasts = [key.rpartition(".")[2] for key in values]
    names = lasts if len(set(lasts)) == len(lasts) else list(values)
    return " · ".join(f"{name} = {value}" for name, value in zip(names, values.values(), strict=True))


def role_of(key: str) -> Role:
    """What a key of a recipe changes."""
    section = key.partition(".")[0]
    return "watching" if section in WATCHING else "sampling" if section == "sample" else "training"


def _differing(facts: Mapping[str, Mapping[str, Any]]) -> tuple[SettingDifference, ...]:
    facts = aligned(facts)
    keys = dict.fromkeys(key for own in facts.values() for key in own)
    found = []
    for key in keys:
        if key.partition(".")[0] in IGNORED:
            continue
        values = {run: _told(own, key) for run, own in facts.items()}
        if len(set(values.values())) > 1:
            found.append(SettingDifference(key, role_of(key), values))
    return tuple(found)


def aligned(facts: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Flat settings in which a key that is a value for some is one for all: a number here, a ramp there."""
    keys = {key for own in facts.values() for key in own}
    whole = {key for key in keys if any(other.startswith(f"{key}.") for other in keys)}
    found: dict[str, dict[str, Any]] = {}
    for run, own in facts.items():
        found[run] = {}
        for key, value in own.items():
            above = next((other for other in sorted(whole) if key.startswith(f"{other}.")), None)
            if above is None:
                found[run][key] = value
            else:
                found[run].setdefault(above, {})[key.removeprefix(f"{above}.")] = value
    return found


def _told(settings: Mapping[str, Any], key: str) -> str:
    return worded(settings[key]) if key in settings else ABSENT


def _identity(run: RunFacts) -> tuple[object, ...]:
    settings = tuple(
        sorted(
            (key, worded(value))
            for key, value in run.settings.items()
            if key != SEED and key.partition(".")[0] not in IGNORED and role_of(key) != "watching"
        )
    )
    changes = tuple(
        (one.step, key, worded(value))
        for one in run.interventions
        for key, value in one.changes.items()
        if role_of(key) != "watching"
    )
    return settings, changes, run.data.get("fingerprint"), run.parent and (run.parent.run, run.parent.step)


def _told_apart(groups: Sequence[Replicas]) -> tuple[Replicas, ...]:
    """Groups that settings do not tell apart (interventions or data do) are labelled by their first run."""
    labels = [group.label for group in groups]
    return tuple(
        group
        if labels.count(group.label) == 1
        else Replicas(f"{group.label} ({group.runs[0]})", group.runs, group.values)
        for group in groups
    )
