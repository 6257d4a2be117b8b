"""A recipe resolved: every section checked by its owner, every default filled in.

A recipe names its method and networks; their files in methods/ and networks/ own those sections.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pydantic import (
    BaseModel,
    Field,
    InstanceOf,
    field_validator,
    model_validator,
)

from safelight import discovery, recipes
from safelight.assembly import (
    loss_weights,
    method_of,
    multiple_of,
    optimisers,
    per_network,
    renamed,
    require_any_size,
    require_known,
    section_of,
)
from safelight.checks.bench.config import CheckConfig
from safelight.config import (
    Reference,
    Section,
    Tree,
    UserError,
    check,
    nearest,
    override,
    read_toml,
    sane,
)
from safelight.data.config import Data, source_follows_path
from safelight.discovery import Outside
from safelight.engine.plan import Optim, Plan, Train, Weight
from safelight.evaluate.config import Evaluate
from safelight.monitor.config import Log, Monitor
from safelight.monitor.stop import StopRules
from safelight.store.checkpoint_files import Checkpoint
from safelight.store.tape import Tape
from safelight.types import Method

FACTOR = 8  # pixels a side of a latent's pixel, at most; autoencoders of 16 need data.bucket_multiple
GUIDE = "guide_by"  # key of [sample] that only a trained run has, see methods/diffusion.py


class About(Section):
    """[about]: how `safelight recipes` lists the recipe."""

    title: str = ""
    """What the recipe trains, in a line."""
    size: str = ""
    """Number of trained parameters, in words."""
    time: str = ""
    """Training time, and the machine it was measured on."""


class Watch(Section):
    """[watch]: images and losses shown while training. Nothing here changes the weights."""

    every: int = Field(500, ge=1)
    """Steps between two sheets of the same fixed samples."""
    epochs: tuple[float, ...] = ()
    """Additional sheets at the end of these epochs."""
    images: int = Field(40, ge=1, le=1000)
    """Images on a sheet; classes take turns."""
    prompts: tuple[str, ...] | None = Field(None, min_length=1)
    """Texts of the sheets, a row each. Default: held-out captions."""
    sampler: str | None = None
    """Sampler of the sheets. Default: sample.sampler."""
    steps: int | None = Field(None, ge=1)
    """Sampler steps of the sheets; few are faster. Default: sample.steps."""
    seed: int = Field(0, ge=0)
    """Random seed for the noises and conditions of the sheets."""
    held_out: int = Field(256, ge=0, le=10**6)
    """Held-out images on which losses are measured; 0 = none."""
    film: tuple[str, ...] = ()
    """Specimens to film while training, such as ["0.3", "0.5"]."""
    film_every: int = Field(10, ge=1)
    """Steps between two frames of the filmed specimens."""

    @field_validator("film")
    @classmethod
    def _specimens(cls, ids: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [name for name in ids if not re.fullmatch(r"\d{1,12}\.\d{1,9}", name)]:
            raise ValueError(f'{wrong[0]!r} is not a specimen; write STEP.DRAW, such as "0.3"')
        return ids


class Init(Section):
    """[init]: weights to begin with. Those that do not fit begin as they would without the section."""

    from_: Reference | None = Field(None, alias="from")
    """Source: a run as RUN or RUN@STEP, a .safetensors file, or a folder, also of diffusers."""
    weights: Literal["averaged", "raw"] = "averaged"
    """Which weights of a run to take."""
    take: tuple[str, ...] = ("*",)
    """Patterns of the parameters to take, such as ["denoiser.down.*"]."""
    skip: tuple[str, ...] = ()
    """Patterns of parameters not to take."""

    @model_validator(mode="after")
    def _has_source(self) -> Init:
        if self.from_ is None and self.model_dump(exclude_defaults=True):
            raise ValueError('state where the weights are from, for example from = "digits-1"')
        return self


class Recipe(BaseModel, frozen=True, extra="forbid"):
    """A resolved recipe: every section checked by its owner, every default filled in."""

    name: str
    stated: InstanceOf[Tree]  # what the file and the overrides say, before defaults
    outside: InstanceOf[dict[str, Outside]]  # code that is not safelight's own, as the recipe ran it
    method_class: Any

    about: About
    data: Data
    networks: dict[str, Any] = Field(alias="network")  # by role; each builds a network
    method_config: Any = Field(alias="method")
    weights: dict[str, Weight] = Field(alias="loss")  # by component
    optim: dict[str, Optim]  # by network
    init: Init
    train: Train
    check: CheckConfig
    watch: Watch
    monitor: Monitor
    stop: StopRules
    log: Log
    evaluate: Evaluate
    checkpoint: Checkpoint
    tape: Tape
    sample: Any

    @model_validator(mode="after")
    def _sections_agree(self) -> Recipe:
        if self.evaluate.steps and "steps" not in type(self.sample).model_fields:
            raise UserError("evaluate.steps: samples of this method take no steps; remove the key")
        if not self.evaluate.every and "evaluate/" in self.stop.goal + self.stop.metric:
            raise UserError(
                "stop: evaluate/ is not measured; set evaluate.every, for example evaluate.every=500"
            )
        if getattr(self.sample, GUIDE, None):
            raise UserError("sample.guide_by: needs a trained run; state it when sampling, not in a recipe")
        if self.data.buckets:
            require_any_size(self.networks, "data.buckets")
        averaged = self.method().ema
        for name in self.tape.networks:
            if name not in averaged:
                raise UserError(f"tape.networks: {name!r} has no averaged weights{nearest(name, averaged)}")
        assert self.preview is not None  # checks [watch] against [sample]
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process resolves what the file says anew: classes of sections are made while it is read."""
        return resolve, (self.stated, self.name)

    def method(self) -> Method:
        """The method, ready to build its networks."""
        made: Method = self.method_class(self.method_config, self.networks)
        return made

    def with_changes(self, changes: Mapping[str, Any]) -> Recipe:
        """The recipe with dotted keys changed; the code it runs stays the code that was run."""
        return resolve(changed(self.stated, changes), self.name, self.outside) if changes else self

    def sampling(self, changes: Mapping[str, Any]) -> BaseModel:
        """[sample] of a trained run with dotted keys changed. Raises UserError."""
        recipe = {key: value for key, value in changes.items() if key != f"sample.{GUIDE}"}
        sample: BaseModel = self.with_changes(recipe).sample
        if len(recipe) < len(changes):
            guide = {GUIDE: changes[f"sample.{GUIDE}"]}
            sample = check(type(sample), sample.model_dump() | guide, "sample")
        return sample

    def plan(self, images: int) -> Plan:
        """What the engine does on a training set of `images` images."""
        epoch = Fraction(max(images, 1), self.train.batch_size)
        return Plan(self.train.steps_for(images), self.train, self.optim, self.weights, epoch)

    @property
    def preview(self) -> BaseModel:
        """[sample] with the sampler and steps of [watch]; only ddim keeps its eta. Raises UserError."""
        changes: Tree = self.watch.model_dump(include={"sampler", "steps"}, exclude_none=True)
        fields: Tree = self.sample.model_dump()
        for key in changes:
            if key not in fields:
                raise UserError(f"watch.{key}: samples of this method take no {key}; remove the key")
        if changes.get("sampler", "ddim") != "ddim" and "eta" in fields:
            changes["eta"] = 0.0
        preview: BaseModel = check(type(self.sample), fields | changes, "watch") if changes else self.sample
        return preview

    @cached_property
    def tree(self) -> Tree:
        """The complete recipe as plain values, as it is written into a run."""
        tree = self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=set(GIVEN))
        stated = self.stated["network"]
        flat = len(self.networks) == 1
        named = {role: renamed(section, stated if flat else stated[role])
                 for role, section in tree["network"].items()}  # fmt: skip
        tree["network"] = next(iter(named.values())) if flat else named
        tree["method"] = renamed(tree["method"], self.stated.get("method", {}))
        tree["loss"] = {"weights": tree["loss"]}
        if not per_network(self.stated.get("optim", {}), self.optim):
            tree["optim"] = next(iter(tree["optim"].values()))
        tree["check"] = self.check.model_dump(mode="json", exclude_defaults=True)
        tree["init"] = self.init.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return {name: section for name, section in tree.items() if section or name not in ("check", "init")}


GIVEN = ("name", "stated", "outside", "method_class")  # fields that are not sections
SECTIONS = tuple(field.alias or name for name, field in Recipe.model_fields.items() if name not in GIVEN)


def load(source: str | Path, changes: Mapping[str, Any] | None = None) -> Recipe:
    """A shipped recipe by name, or a TOML file by path, with dotted keys changed.

    Raises UserError: one line that names the file and the key, and the nearest right one.
    """
    name = str(source)
    if isinstance(source, str) and not name.endswith(".toml") and "/" not in name:
        path, label, folder = recipes.path(name), name, Path()
    elif os.path.isdir(source):
        raise UserError(
            f"{source}: is a folder; write its recipe first: safelight new my.toml --from {source}"
        )
    else:
        path, label, folder = Path(source), Path(source).stem, Path(source).parent
    tree = discovery.from_folder(read_toml(path), folder)
    try:
        result = discovery.from_folder(changed(tree, changes or {}), Path())
        if any(key.startswith("method.") for key in changes or {}):
            result = _without_lost(tree, result, changes or {})
        return resolve(result, label)
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
    """Weights of components that a change of the method removed are removed too, unless in the changes."""
    had, has = (set(method_of(tree, {})[-1].components) for tree in (before, after))
    lost = {name for name in had - has if f"loss.weights.{name}" not in changes}
    weights = section_of(section_of(after, "loss"), "weights", "loss.")
    kept = {name: weight for name, weight in weights.items() if name not in lost}
    return {**after, "loss": {**after.get("loss", {}), "weights": kept}}


def resolve(tree: Tree, name: str, known: Mapping[str, Outside] = MappingProxyType({})) -> Recipe:
    """Check every section of a recipe's tree. Raises UserError.

    known: code that the recipe names and that was run before.
    """
    sane(tree, "")
    require_known(tree, SECTIONS, "")
    outside = dict(known)
    method_class, config, roles, made = method_of(tree, outside)
    trained = sorted({network for phase in made.phases for network in phase.trains})
    by_method = {
        "network": roles,
        "method": config,
        "loss": loss_weights(section_of(tree, "loss"), made.components),
        "optim": optimisers(section_of(tree, "optim"), trained),
        "sample": check(method_class.Sampling, tree.get("sample", {}), "sample"),
    }
    given = {"name": name, "stated": tree, "outside": outside, "method_class": method_class, **by_method}
    if isinstance(data := tree.get("data"), dict) and data.get("buckets") and "bucket_multiple" not in data:
        needed = multiple_of(roles) * (FACTOR if data.get("latents") else 1)
        tree = {**tree, "data": {**data, "bucket_multiple": needed}}
    return check(Recipe, {section: {} for section in SECTIONS} | tree, "", given)
