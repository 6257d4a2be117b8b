"""A grid of settings from words such as optim.lr=1e-4,3e-4: every combination, under every seed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from safelight.config import Tree, UserError, parse_override
from safelight.recipe import Recipe, load

SEED = "train.seed"
LONGEST = 150  # characters of a run's name


@dataclass(frozen=True)
class Combination:
    """One run of a sweep. Its name is a function of its settings, so that it is found again."""

    name: str
    label: str  # what tells it from the others: "lr = 0.0003 · seed 1"
    recipe: Recipe


@dataclass(frozen=True)
class Grid:
    """The runs of a sweep, in the order they are trained."""

    recipe: str
    swept: tuple[str, ...]  # keys that take several values
    seeds: int  # of each combination
    cells: tuple[Combination, ...]

    @property
    def name(self) -> str:
        """ "sweep-digits-lr-width": what its comparison is called."""
        return "-".join(["sweep", self.recipe, *(key.rpartition(".")[2] for key in self.swept)])

    @property
    def title(self) -> str:
        """ "digits: optim.lr, network.width, 3 seeds"."""
        seeds = [f"{self.seeds} seeds"] if self.seeds > 1 else []
        return f"{self.recipe}: " + (", ".join([*self.swept, *seeds]) or "one run")


def grid(source: str | Path, words: Sequence[str], seeds: int = 1) -> Grid:
    """Every combination of the values of the words, each under `seeds` seeds, the seeds innermost.

    words: key=value, or key=value,value,... for several. The seeds are counted up from that of the recipe.
    All recipes are checked before anything trains. Raises UserError.
    """
    axes = dict(map(values_of, words))
    if len(axes) < len(words):
        keys = [word.partition("=")[0].strip() for word in words]
        key = next(key for key in keys if keys.count(key) > 1)
        raise UserError(f"{key}: is given twice; put its values into one word, separated by commas")
    if seeds > 1 and len(axes.get(SEED, ())) > 1:
        raise UserError(f"{SEED}: is swept over already; leave out --seeds")
    swept = [key for key, values in axes.items() if len(values) > 1]
    cells = []
    for values in product(*axes.values()):
        changes = dict(zip(axes, values, strict=True))
        first = load(source, changes)
        for seed in range(first.train.seed, first.train.seed + seeds):
            recipe = first.with_changes({SEED: seed})
            cells.append(combination(recipe, {key: changes[key] for key in swept if key != SEED}))
    names = [cell.name for cell in cells]
    if same := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{same[0]}: two combinations are the same settings; leave one out")
    return Grid(cells[0].recipe.name, tuple(swept), seeds, tuple(cells))


def values_of(word: str) -> tuple[str, list[Any]]:
    """`("optim.lr", [0.0001, 0.0003])` from "optim.lr=1e-4,3e-4". Raises UserError.

    A comma inside brackets, braces or quotes belongs to its value: "network.multipliers=[1,2],[1,2,4]" has
    two.
    """
    key, equals, text = word.partition("=")
    parts = split(text)
    if not equals or not key.strip() or not all(part.strip() for part in parts):
        raise UserError(f"{word!r}: expected key=value,value, for example optim.lr=1e-4,3e-4")
    return key.strip(), [parse_override(f"{key}={part.strip()}")[1] for part in parts]


def split(text: str) -> list[str]:
    """The text at its commas that are in no bracket, brace or quote."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in "[{":
            depth += 1
        elif character in "]}":
            depth -= 1
        elif character == "," and depth == 0:
            parts.append("")
            continue
        parts[-1] += character
    return parts


def combination(recipe: Recipe, swept: Mapping[str, Any]) -> Combination:
    """A recipe, named by its swept keys and its seed."""
    seed = recipe.train.seed
    short = {key.rpartition(".")[2]: _plain(value) for key, value in swept.items()}
    named = short if len(short) == len(swept) else {key: _plain(value) for key, value in swept.items()}
    label = " · ".join([*(f"{key} = {value}" for key, value in named.items()), f"seed {seed}"])
    words = [recipe.name, *(f"{key}={value}" for key, value in named.items())]
    readable = re.sub(r"[^\w.+=-]+", "_", "-".join([*words, f"seed={seed}"])).strip("_")
    return Combination(f"{readable[:LONGEST]}-{digest(recipe)}", label, recipe)


def digest(recipe: Recipe, more: str = "") -> str:
    """Six hexadecimal digits of what a resolved recipe says. more: words that count, too."""
    words = json.dumps(without_about(recipe.tree), sort_keys=True) + more
    return hashlib.blake2b(words.encode(), digest_size=3).hexdigest()


def without_about(tree: Tree) -> Tree:
    """A resolved recipe without its words about itself."""
    return {name: section for name, section in tree.items() if name != "about"}


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
