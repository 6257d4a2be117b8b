"""What differs between runs before anything is measured: settings, interventions, data, code, machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from safelight.config import flatten, override
from safelight.report.basis import setting, worded
from safelight.report.facts import RunFacts

Role = Literal["training", "sampling", "watching"]
ABSENT = "not set"  # a key that the recipe of a run does not have
# Sections that decide what is looked at and kept, not what is trained.
WATCHING = ("watch", "checkpoint", "evaluate", "tape", "monitor", "check")
IGNORED = ("about",)  # words
SEED = "train.seed"
LABELLED = 3  # differing keys that a label says; where there are more it names a run


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

    label: str  # what sets them apart: "lr = 0.0003"
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
        facts[run.name] = flatten({"data": data, "code": run.code} | ({"environment": last} if last else {}))
    begun = {run.name for run in runs if run.sessions}  # of the others nothing is known to differ
    return tuple(
        difference
        for difference in _differing(facts)
        if not difference.key.startswith("environment")
        or len({difference.values[name] for name in begun}) > 1
    )


def edits(runs: Sequence[RunFacts]) -> tuple[SettingEdit, ...]:
    """Every value changed while a run went on, by run and step."""
    edited = []
    for run in runs:
        tree = run.tree
        for edit in sorted(run.interventions, key=lambda edit: edit.step):
            before = aligned({"before": flatten(tree), "after": edit.changes})["before"]
            images = edit.step * run.batch_size
            for key, value in edit.changes.items():
                change = setting(before, key, ABSENT), worded(value)
                edited.append(SettingEdit(run.name, edit.step, images, key, *change))
            tree = override(tree, edit.changes)
    return tuple(edited)


def replicas(runs: Sequence[RunFacts]) -> tuple[Replicas, ...]:
    """Runs grouped by everything but seed and watching: settings, interventions, data, parent.

    Groups that differ in interventions or data only are labelled by their first run too.
    """
    groups: dict[tuple[object, ...], list[RunFacts]] = {}
    for run in runs:
        groups.setdefault(_identity(run), []).append(run)
    firsts = [group[0] for group in groups.values()]
    apart = [
        difference
        for difference in differences(firsts)
        if difference.role != "watching" and difference.key != SEED
    ]
    values = [{difference.key: difference.values[first.name] for difference in apart} for first in firsts]
    labels = [_label(apart_by, first.name) for apart_by, first in zip(values, firsts, strict=True)]
    return tuple(
        Replicas(
            label if labels.count(label) == 1 else f"{label} ({group[0].name})",
            tuple(run.name for run in group),
            apart_by,
        )
        for label, group, apart_by in zip(labels, groups.values(), values, strict=True)
    )


def _label(values: Mapping[str, str], run: str) -> str:
    """ "lr = 0.0003 · width = 32"; the name of a run where too many keys differ to say."""
    if not 1 <= len(values) <= LABELLED:
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
    differences = []
    for key in dict.fromkeys(key for settings in facts.values() for key in settings):
        values = {run: setting(settings, key, ABSENT) for run, settings in facts.items()}
        if key.partition(".")[0] not in IGNORED and len(set(values.values())) > 1:
            differences.append(SettingDifference(key, role_of(key), values))
    return tuple(differences)


def aligned(facts: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Flat settings in which a key that is a value for some is one for all: a number here, a ramp there."""
    keys = {key for settings in facts.values() for key in settings}
    whole = sorted(key for key in keys if any(other.startswith(f"{key}.") for other in keys))
    result: dict[str, dict[str, Any]] = {run: {} for run in facts}
    for run, settings in facts.items():
        for key, value in settings.items():
            above = next((other for other in whole if key.startswith(f"{other}.")), None)
            if above is None:
                result[run][key] = value
            else:
                result[run].setdefault(above, {})[key.removeprefix(f"{above}.")] = value
    return result


def _identity(run: RunFacts) -> tuple[object, ...]:
    settings = sorted(
        (key, worded(value))
        for key, value in run.settings.items()
        if key != SEED and key.partition(".")[0] not in IGNORED and role_of(key) != "watching"
    )
    changes = tuple(
        (edit.step, key, worded(value))
        for edit in run.interventions
        for key, value in edit.changes.items()
        if role_of(key) != "watching"
    )
    # A fork of step 0 begins as its own seed says, like a run of its own.
    parent = (run.parent.run, run.parent.step) if run.parent and run.parent.step else None
    return tuple(settings), changes, run.data.get("fingerprint"), parent
