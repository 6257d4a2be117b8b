"""Values that no recipe means: every key of every section takes each, or refuses it in one line."""

from __future__ import annotations

import importlib
import math
import pkgutil
import typing
from collections.abc import Iterator
from typing import Any

import pytest

from safelight import methods, networks, recipes
from safelight.config import Section, UserError, check, flatten, parse_override
from safelight.recipe import load

for package in (methods, networks):
    for file in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{file.name}")
NEVER = [math.nan, math.inf, -math.inf, 10**5000, "a\0b", "a" * 5000, "\udcff", [math.nan], [10**30],
         {"a": math.nan}, {"a": "\0"}]  # fmt: skip
ODD = [True, None, -1, 0, 0.5, 10**12, -(10**12), 2**62, 1e300, "", " ", "\x1b[2J\n", "../..", [], [0], [-1],
       [[]], {}, {"a": 1}, {"name": {"a": 1}}, [1] * 9000, ["x"] * 3]  # fmt: skip
COUNTS = {  # steps, seeds and sizes of files: numbers for which no memory is taken
    "steps", "every", "seed", "warmup", "hold", "after", "over", "interval", "keep", "budget", "film_every",
    "penalty_every", "path_every", "batch_size", "start",
}  # fmt: skip


def sections(base: type = Section) -> Iterator[type[Section]]:
    for section in base.__subclasses__():
        if section.__module__.startswith("safelight."):
            yield section
        yield from sections(section)


KEYS = [(section, key) for section in dict.fromkeys(sections()) for key in section.model_fields]
needed: dict[type, dict[str, Any]] = {}


def valid(section: type[Section]) -> dict[str, Any]:
    """Values for the keys of a section that have no default."""
    wanted = {key: "run:x" for key, field in section.model_fields.items() if field.is_required()}
    return wanted | ({"steps": 3} if {"steps", "epochs"} <= section.model_fields.keys() else {})


def refused(call: Any, *arguments: Any) -> bool:
    """Whether it raised a UserError of one line that can be read."""
    try:
        call(*arguments)
    except UserError as error:
        assert len(str(error)) < 1500
        return True
    return False


def test_there_is_something_to_feed():
    assert len(KEYS) > 150
    assert {"multipliers", "lr", "budget", "queue", "path", "begin"} <= {key for _, key in KEYS}


@pytest.mark.parametrize("section", dict(KEYS))
def test_a_section_refuses_what_no_recipe_means_and_survives_what_is_odd(section):
    for key in section.model_fields:
        for value in NEVER:
            assert refused(check, section, valid(section) | {key: value}, "here"), (key, value)
        for value in ODD:
            refused(check, section, valid(section) | {key: value}, "here")


def test_a_number_that_memory_is_taken_for_has_an_end():
    for section, key in KEYS:
        kind = section.model_fields[key].annotation
        if key in COUNTS or not {int} & {kind, *typing.get_args(kind)}:
            continue
        assert refused(check, section, valid(section) | {key: 10**12}, "here"), (section, key)


def test_widths_of_networks_are_above_zero():
    for section, key in KEYS:
        if key in ("widths", "stages", "multipliers") and section.model_fields[key].annotation is not int:
            for value in ([0], [4, 0], [-4], [], [2**40]):
                assert refused(check, section, {key: value}, "network"), (section, key, value)


FAMILIES = ("digits-class", "fashion-gan", "captions-small", "faces-small", "skin-small", "digits-denoise",
            "captions-encoder", "digits-2step")  # fmt: skip


@pytest.mark.parametrize("recipe", FAMILIES)
def test_every_key_of_a_recipe_is_refused_in_one_line(recipe):
    tree = load(recipe).tree
    for key in (*flatten(tree), *tree, "network.name", "method.name", "loss.weights.mse", "network.x.y.z"):
        for value in (math.nan, 10**5000, "\0", {"a": 1, "name": {"b": 2}}, [[math.inf]]):
            assert refused(load, recipe, {key: value}) or isinstance(value, dict), (key, value)


def test_a_family_of_each_method_is_fed():
    fed = {load(name).method_class for name in FAMILIES}
    assert fed == {load(name).method_class for name in recipes.names()}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("loss.weights.mse=nan", "loss.weights.mse: nan is no finite number"),
        ("loss.weights.mse={begin=inf}", "loss.weights.mse.begin: inf is no finite number"),
        ("network.multipliers=[0]", "network.multipliers.0: 0 should be greater than or equal to 1"),
        ("network.width=1000000", "network.width: 1000000 should be less than or equal to 65536"),
        ("network.name={a=1}", "network.name: {'a': 1} is not a name"),
        ("method.name=[1]", "method.name: [1] is not a name"),
        ("checkpoint.budget=" + "9" * 5000, "checkpoint.budget: '9999"),
        ("checkpoint.budget=" + "9" * 4000, "checkpoint.budget: 9999"),
        ("checkpoint.budget='" + "9" * 4000 + " GB'", "checkpoint.budget: '9999"),
        ("data.path=a\0b", "data.path: 'a\\x00b' holds a character that is no text"),
        ("data.path=" + "a" * 5000, "data.path: 'aaaa"),
        ("optim.lr=inf", "optim.lr: inf is no finite number"),
        ("optim.betas=[nan, 0.9]", "optim.betas: nan is no finite number"),
        ("train.seed=" + "1" * 30, "train.seed: 1111"),
        ("a" + ".a" * 3000 + "=1", "'a.a.a"),
        ("optim.lr=" + "[" * 5000, "optim.lr: '[[["),
        ("about=1", "about: expected a section [about], found 1"),
    ],
)
def test_the_message_names_the_key(word, message):
    with pytest.raises(UserError) as caught:
        load("fashion", dict([parse_override(word)]))
    assert str(caught.value).startswith(message)
    assert len(str(caught.value)) < 500
