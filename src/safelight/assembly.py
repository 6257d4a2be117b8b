"""What a recipe's tree names: the method, its networks, weights of losses, and an optimiser a network."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from safelight import discovery, methods
from safelight.config import Tree, UserError, check, nearest, shortened
from safelight.discovery import Outside
from safelight.engine.plan import Optim, Weight
from safelight.types import Method


def method_of(tree: Tree, outside: dict[str, Outside]) -> tuple[type[Any], BaseModel, dict[str, Any], Method]:
    """The class, the section, the networks by role, and the method they make."""
    section = section_of(tree, "method")
    module = discovery.module(methods, section.get("name", "diffusion"), "method.name", outside)
    method = discovery.method_class(module)
    config = check(method.Config, _unnamed(section), "method")
    roles = _networks(section_of(tree, "network"), method, outside)
    return method, config, roles, method(config, roles)


def _networks(tree: Tree, method: type[Any], outside: dict[str, Outside]) -> dict[str, Any]:
    """The network configuration of each role; a method with one role has it flat in [network]."""
    optional = getattr(method, "optional_roles", ())  # roles that a recipe may leave out
    roles = (*method.roles, *(role for role in optional if role in tree))
    if len(roles) == 1:
        return {roles[0]: _network(tree, "network", outside)}
    require_known(tree, roles, "network.")
    return {role: _network(section_of(tree, role, "network."), f"network.{role}", outside) for role in roles}


def _network(tree: Tree, where: str, outside: dict[str, Outside]) -> Any:
    if "name" not in tree:
        raise UserError(f"{where}.name: is missing (known: {', '.join(discovery.network_configs())})")
    return check(discovery.network_config(tree["name"], f"{where}.name", outside), _unnamed(tree), where)


def loss_weights(tree: Tree, components: Mapping[str, float]) -> dict[str, Weight]:
    """The weight of each component of the loss. Raises UserError for a component that the method lacks."""
    for key in tree:
        if key != "weights":
            raise UserError(f"loss.{key}: no such key (did you mean loss.weights.{key}?)")
    weights: dict[str, Weight] = dict(components)
    for name, value in section_of(tree, "weights", "loss.").items():
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


def optimisers(tree: Tree, trained: list[str]) -> dict[str, Optim]:
    """One section for all trained networks, or a section each."""
    if not per_network(tree, trained):
        return dict.fromkeys(trained, check(Optim, tree, "optim"))
    require_known(tree, trained, "optim.")
    return {name: check(Optim, tree.get(name, {}), f"optim.{name}") for name in trained}


def section_of(tree: Tree, name: str, prefix: str = "") -> Tree:
    """A section of a tree; {} where it is not stated. Raises UserError where a value is in its place."""
    section = tree.get(name, {})
    if not isinstance(section, dict):
        raise UserError(f"{prefix}{name}: expected a section [{prefix}{name}], found {shortened(section)}")
    return section


def require_known(tree: Tree, known: Iterable[str], prefix: str) -> None:
    """Raises UserError for a section that is none of those known."""
    for key in tree:
        if key not in known:
            raise UserError(f"{prefix}{key}: no such section{nearest(key, known)}")


def per_network(tree: Tree, trained: Iterable[str]) -> bool:
    """Whether [optim] has a section for a network."""
    return any(isinstance(tree.get(name), dict) for name in trained)


def _unnamed(tree: Tree) -> Tree:
    """A section without its name, by which its component was found."""
    return {key: value for key, value in tree.items() if key != "name"}


def renamed(plain: Tree, stated: Tree) -> Tree:
    """A section under the name it was stated by, such as the path of a person's file."""
    return {"name": stated.get("name", plain.get("name")), **_unnamed(plain)}


def require_any_size(networks: Mapping[str, Any], key: str) -> None:
    """Raises UserError for networks that are built for images of one size: they state no `multiple`."""
    for role, config in networks.items():
        if getattr(config, "multiple", None) is None:
            where = "network" if len(networks) == 1 else f"network.{role}"
            raise UserError(
                f"{key}: {getattr(config, 'name', where)} ({where}) is for images of one size; "
                f'use a fully convolutional network, such as {where}.name="unet", or remove {key}'
            )


def multiple_of(networks: Mapping[str, Any]) -> int:
    """What sides of images have to divide by for every network."""
    return math.lcm(*(getattr(config, "multiple", None) or 1 for config in networks.values()))
