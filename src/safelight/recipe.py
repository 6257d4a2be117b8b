"""A recipe resolved: every section checked by the component that reads it, every default filled in.

A recipe names its method and networks; their files in methods/ and networks/ own those sections.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, Field, TypeAdapter, ValidationError, field_validator

from safelight import discovery, methods, recipes
from safelight.checks.bench.config import CheckConfig
from safelight.config import Section, Tree, UserError, check, nearest, override, read_toml, sane, shortened
from safelight.data.config import Data, source_follows_path
from safelight.discovery import Outside
from safelight.engine.plan import Optim, Plan, Train, Weight
from safelight.evaluate.config import Evaluate
from safelight.monitor.config import Monitor
from safelight.store.checkpoint_files import Checkpoint
from safelight.store.tape import Tape
from safelight.types import Method

# --- The sections of a recipe that no component reads by itself: what it is called, and what is looked at ---


class About(Section):
    """[about]: what a list of recipes says of this one."""

    title: str = ""
    size: str = Field("", description="number of trained parameters, in words")
    time: str = Field("", description="how long it takes, and on what")


class Watch(Section):
    """[watch]: what is looked at while training. None of it changes the weights."""

    every: int = Field(500, ge=1, description="steps between two sheets of the same fixed samples")
    epochs: tuple[float, ...] = Field((), description="further sheets, at the end of these epochs")
    images: int = Field(40, ge=1, le=1000, description="images on a sheet; classes take turns")
    prompts: tuple[str, ...] | None = Field(
        None, min_length=1, description="texts of the sheets, a row each, in place of held-out ones"
    )
    sampler: str | None = Field(None, description="of the sheets; without it that of [sample]")
    steps: int | None = Field(
        None, ge=1, description="of that sampler, few so that looking is quick; without it sample.steps"
    )
    seed: int = Field(0, ge=0, description="of the fixed noises and conditions")
    held_out: int = Field(
        256, ge=0, le=10**6, description="held-out images the losses are measured on; 0 = none"
    )
    film: tuple[str, ...] = Field((), description='specimens that are filmed live, such as ["0.3", "0.5"]')
    film_every: int = Field(10, ge=1, description="steps between two pictures of them")

    @field_validator("film")
    @classmethod
    def _specimens(cls, ids: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [one for one in ids if not re.fullmatch(r"\d{1,12}\.\d{1,9}", one)]:
            raise ValueError(f'{wrong[0]!r} is no specimen; they are STEP.DRAW, such as "0.3"')
        return ids


SECTIONS = (
    "about", "data", "network", "method", "loss", "optim",
    "train", "check", "watch", "monitor", "evaluate", "checkpoint", "tape",
    "sample",
)  # fmt: skip


LIVE = (  # can be edited in a run
    "optim", "loss", "watch", "monitor", "evaluate", "checkpoint", "tape", "sample",
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """A resolved recipe: every section checked, every default filled in."""

    name: str
    about: About
    data: Data
    networks: Mapping[str, Any]  # by role; each builds a network
    method_class: type[Any]
    method_config: BaseModel
    weights: Mapping[str, Weight]
    optim: Mapping[str, Optim]  # by network
    train: Train
    check: CheckConfig
    watch: Watch
    monitor: Monitor
    evaluate: Evaluate
    checkpoint: Checkpoint
    tape: Tape
    sample: BaseModel
    stated: Tree  # what the file and the overrides say, before defaults
    outside: Mapping[str, Outside]  # code that is not safelight's own, as the recipe ran it

    def method(self) -> Method:
        """The method, ready to build its networks."""
        made: Method = self.method_class(self.method_config, self.networks)
        return made

    def with_changes(self, changes: Mapping[str, Any]) -> Recipe:
        """The recipe with dotted keys changed; the code it runs stays the code that was run."""
        return resolve(changed(self.stated, changes), self.name, self.outside) if changes else self

    @property
    def preview(self) -> BaseModel:
        """[sample] as the sheets of [watch] use it: by its sampler, in its steps, where it states them."""
        return _preview(self.watch, self.sample)

    def _check(self) -> Tree:
        """[check] where it says anything: it is about one recipe's own peculiarities."""
        own = self.check.model_dump(mode="json", exclude_defaults=True)
        return {"check": own} if own else {}

    def plan(self, images: int) -> Plan:
        """What the engine is asked to do, on a training set of `images` images."""
        epoch = Fraction(max(images, 1), self.train.batch_size)
        return Plan(self.train.steps_for(images), self.train, self.optim, self.weights, epoch)

    @cached_property
    def tree(self) -> Tree:
        """The complete recipe as plain values, as it is written into a run."""
        flat_network = len(self.method_class.roles) == 1
        stated = self.stated["network"]
        networks = {
            role: _named(config, stated if flat_network else stated[role])
            for role, config in self.networks.items()
        }
        optims = {name: _plain(optim) for name, optim in self.optim.items()}
        same_optim = not _per_network(self.stated.get("optim", {}), self.optim)
        return {
            "about": _plain(self.about),
            "data": _plain(self.data),
            "network": next(iter(networks.values())) if flat_network else networks,
            "method": _named(self.method_config, self.stated.get("method", {})),
            "loss": {"weights": {name: _plain(weight) for name, weight in self.weights.items()}},
            "optim": next(iter(optims.values())) if same_optim else optims,
            "train": _plain(self.train),
            **self._check(),
            "watch": _plain(self.watch),
            "monitor": _plain(self.monitor),
            "evaluate": _plain(self.evaluate),
            "checkpoint": _plain(self.checkpoint),
            "tape": _plain(self.tape),
            "sample": _plain(self.sample),
        }


def load(source: str | Path, changes: Mapping[str, Any] | None = None) -> Recipe:
    """A shipped recipe by name, or a TOML file by path, with dotted keys changed.

    Raises UserError: one line that names the file and the key, and the nearest right one.
    """
    name = str(source)
    if isinstance(source, str) and not name.endswith(".toml") and "/" not in name:
        path, label, folder = recipes.path(name), name, Path()
    else:
        path, label, folder = Path(source), Path(source).stem, Path(source).parent
    tree = discovery.from_folder(read_toml(path), folder)
    try:
        asked = discovery.from_folder(changed(tree, changes or {}), Path())
        if any(key.startswith("method.") for key in changes or {}):
            asked = _without_lost(tree, asked, changes or {})
        return resolve(asked, label)
    except UserError as error:
        raise error if changes else UserError(f"{path.name}: {error}") from error


def changed(tree: Tree, changes: Mapping[str, Any]) -> Tree:
    """The tree with dotted keys changed; train.steps takes the place of train.epochs, and the other way.

    A path that comes without its source says what it is: photos/ in a recipe of fashion-mnist is a folder.
    """
    for name, value in changes.items():
        sane(value, name)
    result = override(tree, changes)
    if "data.path" in changes and "data.source" not in changes:
        result["data"] = source_follows_path(result["data"])
    for stated, instead_of in (("steps", "epochs"), ("epochs", "steps")):
        if f"train.{stated}" in changes and f"train.{instead_of}" not in changes:
            result["train"].pop(instead_of, None)
    return result


def _without_lost(before: Tree, after: Tree, changes: Mapping[str, Any]) -> Tree:
    """Weights of components that a change of the method took away go with them, unless asked for."""
    was, now = (_method(tree, {})[-1].components.keys() for tree in (before, after))
    lost = {name for name in was - now if f"loss.weights.{name}" not in changes}
    weights = _section(_section(after, "loss"), "weights")
    kept = {name: weight for name, weight in weights.items() if name not in lost}
    return {**after, "loss": {**after.get("loss", {}), "weights": kept}}


def resolve(tree: Tree, name: str, known: Mapping[str, Outside] = MappingProxyType({})) -> Recipe:
    """Check every section of a recipe's tree. Raises UserError.

    known: code that the recipe names and that was run before.
    """
    sane(tree, "")
    for key in tree:
        if key not in SECTIONS:
            raise UserError(f"{key}: no such section{nearest(key, SECTIONS)}")
    outside = dict(known)
    method_class, method_config, network_configs, made = _method(tree, outside)
    trained = {name for phase in made.phases for name in phase.trains}
    watch = check(Watch, _section(tree, "watch"), "watch")
    sample = check(method_class.Sampling, _section(tree, "sample"), "sample")
    _preview(watch, sample)
    return Recipe(
        name=name,
        about=check(About, _section(tree, "about"), "about"),
        data=check(Data, _section(tree, "data"), "data"),
        networks=network_configs,
        method_class=method_class,
        method_config=method_config,
        weights=_weights(_section(tree, "loss"), made.components),
        optim=_optim(_section(tree, "optim"), sorted(trained)),
        train=check(Train, _section(tree, "train"), "train"),
        check=check(CheckConfig, _section(tree, "check"), "check"),
        watch=watch,
        monitor=check(Monitor, _section(tree, "monitor"), "monitor"),
        evaluate=_evaluate(_section(tree, "evaluate"), method_class.Sampling),
        checkpoint=check(Checkpoint, _section(tree, "checkpoint"), "checkpoint"),
        tape=_tape(_section(tree, "tape"), made.ema),
        sample=sample,
        stated=tree,
        outside=outside,
    )


def _method(tree: Tree, outside: dict[str, Outside]) -> tuple[type[Any], BaseModel, dict[str, Any], Method]:
    """The class, the section, the networks by role, and the method they make."""
    section = _section(tree, "method")
    name = section.get("name", "diffusion")
    found = discovery.method_class(discovery.module(methods, name, "method.name", outside))
    config = check(found.Config, _unnamed(section), "method")
    optional = getattr(found, "optional_roles", ())
    networks_of = _networks(_section(tree, "network"), found.roles, optional, outside)
    return found, config, networks_of, found(config, networks_of)


def _section(tree: Tree, name: str) -> Tree:
    section = tree.get(name, {})
    if not isinstance(section, dict):
        raise UserError(f"{name}: expected a section [{name}], found {shortened(section)}")
    return section


def _networks(
    tree: Tree, roles: Iterable[str], optional: Iterable[str], outside: dict[str, Outside]
) -> dict[str, Any]:
    """The network configuration of each role; a method with one role has it flat in [network].

    optional: roles that a recipe may leave out.
    """
    roles = (*roles, *(role for role in optional if role in tree))
    if len(roles) == 1:
        return {roles[0]: _network(tree, "network", outside)}
    for key in tree:
        if key not in roles:
            raise UserError(f"network.{key}: no such section{nearest(key, roles)}")
    return {role: _network(_section(tree, role), f"network.{role}", outside) for role in roles}


def _network(tree: Tree, where: str, outside: dict[str, Outside]) -> Any:
    if "name" not in tree:
        raise UserError(f"{where}.name: is missing (known: {', '.join(discovery.network_configs())})")
    return check(discovery.network_config(tree["name"], f"{where}.name", outside), _unnamed(tree), where)


def _unnamed(tree: Tree) -> Tree:
    """A section without its name, by which its component was found."""
    return {key: value for key, value in tree.items() if key != "name"}


def _weights(tree: Tree, components: Mapping[str, float]) -> dict[str, Weight]:
    for key in tree:
        if key != "weights":
            raise UserError(f"loss.{key}: no such key (did you mean loss.weights.{key}?)")
    weights: dict[str, Weight] = dict(components)
    for name, value in _section(tree, "weights").items():
        if name not in components:
            raise UserError(f"loss.weights.{name}: no such component{nearest(name, components)}")
        try:
            weights[name] = TypeAdapter(Weight).validate_python(value)
        except ValidationError as error:
            raise UserError(
                f"loss.weights.{name}: {shortened(value)} is neither a number nor a ramp such as "
                "{begin = 0.0, end = 1.0, after = 0, over = 1000}"
            ) from error
    return weights


def _evaluate(tree: Tree, sampling: type[BaseModel]) -> Evaluate:
    section = check(Evaluate, tree, "evaluate")
    if section.steps and "steps" not in sampling.model_fields:
        raise UserError("evaluate.steps: samples of this method take no steps; remove the key")
    return section


def _preview(watch: Watch, sample: BaseModel) -> BaseModel:
    """[sample] by the sampler and the steps of [watch]; only ddim keeps its eta. Raises UserError."""
    changes: Tree = watch.model_dump(include={"sampler", "steps"}, exclude_none=True)
    fields = sample.model_dump()
    for key in changes:
        if key not in fields:
            raise UserError(f"watch.{key}: samples of this method take no {key}; remove the key")
    if changes.get("sampler", "ddim") != "ddim" and "eta" in fields:
        changes["eta"] = 0.0
    return check(type(sample), fields | changes, "watch") if changes else sample


def _tape(tree: Tree, averaged: Sequence[str]) -> Tape:
    section = check(Tape, tree, "tape")
    for name in section.networks:
        if name not in averaged:
            raise UserError(f"tape.networks: {name!r} has no averaged weights{nearest(name, averaged)}")
    return section


def _per_network(tree: Tree, trained: Iterable[str]) -> bool:
    return any(isinstance(tree.get(name), dict) for name in trained)


def _optim(tree: Tree, trained: list[str]) -> dict[str, Optim]:
    """An optimiser for each trained network: one for all, or a section each."""
    if not _per_network(tree, trained):
        return dict.fromkeys(trained, check(Optim, tree, "optim"))
    for key in tree:
        if key not in trained:
            raise UserError(f"optim.{key}: no such section{nearest(key, trained)}")
    return {name: check(Optim, _section(tree, name), f"optim.{name}") for name in trained}


def _named(config: BaseModel, stated: Tree) -> Tree:
    """A section as plain values, under the name it was stated by."""
    plain: Tree = _plain(config)
    return {"name": stated.get("name", plain.get("name")), **_unnamed(plain)}


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json", exclude_none=True) if isinstance(value, BaseModel) else value
