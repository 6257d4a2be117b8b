"""Everything a user can meet has an explanation: findings, verdicts, metrics, errors, keys."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import get_args

import pytest

import safelight
from command_line import run
from safelight import explain, keys
from safelight.config import UserError
from safelight.evaluate.distances import Prdc
from safelight.monitor.config import Name
from safelight.store.durable import mendable

PACKAGE = Path(safelight.__file__).parent
DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("kind", explain.KINDS)
def test_the_page_is_made_of_the_texts(kind):
    """Otherwise: python -m safelight.explain KIND > docs/KIND.md."""
    assert (DOCS / f"{kind}.md").read_text(encoding="utf-8") == explain.written(kind)


def test_every_verdict_finding_and_metric_is_explained():
    assert {explain.slugged(name) for name in get_args(Name)} == set(explain.texts()["verdicts"])
    for name in (
        *get_args(Name),
        *explain.findings(),
        *Prdc.__annotations__,
        "FID",
        "KID-random",
        "IoU of sky",
    ):
        (found,) = explain.explain(name)
        assert found.texts["What"]
    sources = "".join(path.read_text(encoding="utf-8") for path in (PACKAGE / "evaluate").glob("*.py"))
    for name in re.findall(r'"([\w ]+)": (?:Result|share|mean)\(|results\["([\w ]+)"\]', sources):
        explain.explain(name[0] or name[1])


def test_every_module_that_raises_a_mistake_has_a_code_for_it():
    """Otherwise: name its package among the modules of an error in explanations.toml."""
    for path in PACKAGE.rglob("*.py"):
        if "raise UserError" in path.read_text(encoding="utf-8"):
            module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(
                ".__init__"
            )
            assert explain.of_module(module) or module == "safelight.store.durable", module


def test_every_module_that_has_a_code_is_there():
    for entry in explain.texts()["errors"].values():
        for module in entry.get("modules", ()):
            place = PACKAGE / module.replace(".", "/")
            assert place.is_dir() or place.with_suffix(".py").is_file(), module


def raised(number: int) -> UserError:
    with pytest.raises(UserError) as caught, mendable(Path("x")):
        raise OSError(number, "what", "x")
    return caught.value


def test_an_error_is_of_its_number_or_of_who_raised_it(tmp_path):
    assert explain.of_error(raised(errno.ENOSPC)) == "no-space"
    assert explain.of_error(raised(errno.EACCES)) == "no-permission"
    assert explain.of_error(UserError("x needs y: pip install 'safelight[y]'")) == "missing-package"
    assert explain.of_error(MemoryError()) == "out-of-memory"
    for code, wrong in {
        "no-run": lambda: safelight.open_run("nothing", runs=tmp_path),
        "recipe-key": lambda: safelight.plan("digits", {"optim.lrr": 1}),
        "data-folder": lambda: safelight.plan("fashion", {"data.path": str(tmp_path / "none")}),
    }.items():
        with pytest.raises(UserError) as caught:
            wrong()
        assert explain.of_error(caught.value) == code


def test_a_key_is_explained_in_every_model_that_has_it():
    (rate,) = explain.explain("optim.lr")
    assert (rate.texts["What"], rate.texts["In"]) == ("Peak learning rate.", "[optim]")
    rows = keys.page().count("| `width` |")
    assert len(explain.explain("network.width")) == rows > 1
    assert {row.code for row in explain.recipe_keys()} >= {
        "train.steps",
        "data.latents.autoencoder",
        "method.process",
    }


def test_the_line_below_an_error_is_for_terminals_alone(monkeypatch, capsys, tmp_path):
    words = ("show", "nothing", "--runs", str(tmp_path))
    assert run(monkeypatch, capsys, *words)[2].count("\n") == 1
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert run(monkeypatch, capsys, *words)[2].splitlines()[1:] == ["\x1b[2msafelight explain no-run\x1b[0m"]


def test_explain_lists_its_codes_and_refuses_others(monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "explain")
    assert code == 0
    assert set(out.split()) >= {"mode-collapse", "no-space", "fd", "bf16-differs"}
    code, _, err = run(monkeypatch, capsys, "explain", "modecollapse")
    assert (code, "did you mean 'mode-collapse'" in err) == (2, True)
