"""The silent faults of the five systems, reproduced small, each caught by its code: docs/faults.md."""

from __future__ import annotations

import json
import sys

import pytest

import safelight.cli
from safelight import recipes
from safelight.checks import conditions, schedule
from safelight.checks.bench.finding import Checked
from safelight.checks.bench.runner import run
from safelight.engine.distributed import World
from safelight.engine.precision import Execution
from safelight.loading.prepare import prepare
from safelight.recipe import load
from safelight.training import check as session
from subjects import FAULTS

CAUGHT = {
    "latent-chain": {"space-not-inverted"},
    "text-sum": {"sample-leak"},
    "collapse": {"posterior-collapse"},
    "tanh-heads": {"latent-capped"},
    "gelu-end": {"output-range"},
    "one-cycle": {"hours-exceeded"},
    "warm-up": {"schedule-unfinished"},
    "null-class": {"null-is-real", "parameter-unmoved"},  # its vector for no condition is never used
    "label-zero": {"null-is-real"},
    "stops-early": {"sampler-unfinished"},
    "one-time": {"one-time-a-batch"},
    "training-mode": {"sampling-in-training-mode"},
    "other-kind": {"conditions-differ"},
    "untrained-start": {"times-untrained"},
    "blind": {"latent-unseen"},
    "plain": set(),
}


def looked_at(recipe, fast=True):
    """What the checks find in a recipe, as its [check] declares it, however busy the machine is."""
    ready = prepare(recipe, World())
    subject = session.subject(ready, Execution("fp32", "contiguous"))
    subject.clock.begin = lambda seconds: None
    checked = run(subject, fast)
    return checked.declaring(recipe.check.expected_findings)


def open_ones(checked):
    return {
        finding.code for finding in checked.findings if finding.severity != "note" and not finding.declared
    }


@pytest.mark.parametrize("name", CAUGHT)
def test_a_fault_is_caught_by_its_code_and_nothing_else_is_called_one(name):
    checked = looked_at(load(str(FAULTS / f"{name}.toml")))
    assert open_ones(checked) == CAUGHT[name]
    assert bool(checked.errors) == (name not in {"plain", "blind", "untrained-start"})


def test_every_fixture_is_asserted():
    assert {path.stem for path in FAULTS.glob("*.toml")} == CAUGHT.keys()


def test_the_floor_under_a_gelu_is_what_the_integral_says():
    """∫ (ε + .17)² over ε < -.17 of the normal density is .379; batches of 16 scatter about it."""
    (finding,) = looked_at(load(str(FAULTS / "gelu-end.toml"))).errors
    floor = float(finding.measured.split("cannot get below ")[1].split(",")[0])
    assert floor == pytest.approx(0.379, abs=0.015)
    assert "-0.170" in finding.measured


def test_two_tanh_heads_cap_a_latent_at_86_hundredths_of_a_nat():
    (finding,) = looked_at(load(str(FAULTS / "tanh-heads.toml"))).errors
    assert "at most 0.86 nats" in finding.measured  # (1 + e - 1 - 1) / 2


def command(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["safelight", *words])
    with pytest.raises(SystemExit) as end:
        safelight.cli.main()
    return int(end.value.code or 0), *capsys.readouterr()


def test_the_command_exits_1_with_the_code_and_0_once_it_is_declared(monkeypatch, capsys):
    recipe = str(FAULTS / "warm-up.toml")
    code, out, _ = command(monkeypatch, capsys, "check", recipe, "--fast", "--json")
    printed = json.loads(out)
    (finding,) = [item for item in printed["findings"] if item["severity"] == "error"]
    assert (code, printed["errors"], finding["code"]) == (1, 1, "schedule-unfinished")
    assert finding["page"] == "docs/checks.md#schedule-unfinished"
    declared = "check.expected_findings.schedule-unfinished=a trial of the warm-up alone"
    code, out, _ = command(monkeypatch, capsys, "check", recipe, declared, "--fast")
    assert code == 0
    assert "declared: a trial of the warm-up alone" in " ".join(out.split())
    assert "1 declared" in out


def test_a_run_of_half_a_minute_is_told_no_error_after_which_it_goes_on(monkeypatch):
    """Errors are warnings there, and that it is short is a note; a longer one is refused."""
    ready = prepare(load(str(FAULTS / "warm-up.toml")), World())
    short, fault = schedule.UNFINISHED.finding("a", "b"), conditions.NULL_IS_REAL.finding("c", "d")
    lines, warned = [], []

    def checked(planned, *findings):
        looked = Checked(findings, ["schedule"], {}, 1.0, True, planned)
        monkeypatch.setattr(session, "check", lambda *args, **kwargs: looked)
        return session.before_training(ready, Execution("fp32", "contiguous"), lines.append, warned.append)

    result = checked(29.0, short, fault)
    assert [(finding.code, finding.severity) for finding in result.findings] == [
        ("null-is-real", "warning"),
        ("schedule-unfinished", "note"),
    ]
    assert lines == ["checked in 1.0 s: 1 warning, 1 note"]
    assert [line.split(":")[0] for line in warned] == ["null-is-real"]
    with pytest.raises(safelight.config.UserError, match="schedule-unfinished"):
        checked(31.0, short)


def test_a_mistake_in_the_recipe_is_one_line_and_exit_2(monkeypatch, capsys):
    code, out, err = command(monkeypatch, capsys, "check", "digits", "network.patch=5")
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith("safelight: network.patch")


@pytest.mark.parametrize("name", ["digits", "digits-time", "digits-class"])
def test_a_shipped_recipe_has_no_finding_that_it_does_not_declare(name):
    """Those that are quick; the slow lane looks at all of them, whole."""
    checked = looked_at(load(name))
    assert open_ones(checked) == set()
    assert checked.skipped == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", recipes.names())
def test_every_shipped_recipe_with_data_at_hand(name):
    recipe = load(name)
    try:
        checked = looked_at(recipe, fast=False)
    except safelight.config.UserError as missing:
        pytest.skip(str(missing))
    assert open_ones(checked) == set()
