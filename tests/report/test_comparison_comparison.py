"""A comparison as a whole: a run that failed never touches what is said of the others."""

from __future__ import annotations

import json
import math

import pytest

from compare_runs import DATA, nan_after
from safelight.report.comparison import compare
from safelight.report.facts import gather
from safelight.store import sealed
from safelight.store.directory import RunDirectory, create
from safelight.store.info import Facts


def numbers_of(comparison, place: int = 0) -> dict[str, float]:
    """mse by run at one of the equal budgets."""
    return {
        row.run: row.numbers["mse"].value
        for column in comparison.at[place].components.columns
        for row in column.rows
    }


def broken(made, name: str, file: str, content: bytes | None):
    """A run one file of which was replaced, or deleted."""
    directory = made(name)
    if content is None:
        (directory.path / file).unlink()
    else:
        (directory.path / file).write_bytes(content)
    return gather(directory)


def bad_runs(made):
    yield made.read("failed", done=3, end="failed")
    yield made.read("killed", done=7, end=None)
    yield made.read("nan", losses=nan_after(5))
    yield made.read("nan-at-once", losses=nan_after(0))
    yield made.read("never-begun", done=0, end=None)
    yield broken(made, "torn-metrics", "metrics-0001.jsonl", b'{"session":1,"start":0}\n{"step":0,"im')
    yield broken(made, "no-metrics", "metrics-0001.jsonl", None)
    yield broken(made, "no-recipe", "recipe.toml", None)
    yield broken(made, "edited-recipe", "recipe.toml", b"[train]\nsteps = 1\n")
    yield broken(made, "no-journal", "journal.jsonl", None)
    yield broken(made, "bad-run-json", "run.json", b"{}")


def test_bad_runs_never_poison_a_comparison(made):
    good = [made.read("a", losses=lambda s: 2.0), made.read("b", {"optim.lr": 0.1}, losses=lambda s: 3.0)]
    clean = compare(good)
    for bad in bad_runs(made):
        comparison = compare([bad, *good])
        assert comparison.at[0].budget.amount == 1000
        assert numbers_of(comparison) == numbers_of(clean) == {"a": 2.0, "b": 3.0}, bad.name
        said = [
            run.fate or run.problems
            for run in (*comparison.runs, *comparison.unreadable)
            if run.name == bad.name
        ]
        assert len(said) == 1, bad.name
        assert said[0], bad.name
        json.dumps(comparison.to_dict(), default=str)


def test_a_bad_run_is_compared_up_to_where_it_came(made):
    good = [made.read(name, losses=lambda step: 2.0) for name in "ab"]
    failed = made.read("failed", done=20, end="failed", losses=lambda step: 4.0)
    nan = made.read("nan", losses=nan_after(40, 5.0))
    comparison = compare([*good, failed, nan])
    assert [(at.budget.amount, at.budget.runs) for at in comparison.at] == [
        (1000, ("a", "b")),
        (400, ("a", "b", "nan")),
        (200, ("a", "b", "failed", "nan")),
    ]
    assert numbers_of(comparison, 1) == {"a": 2.0, "b": 2.0, "nan": 5.0}
    assert numbers_of(comparison, 2) == {"a": 2.0, "b": 2.0, "failed": 4.0, "nan": 5.0}
    assert comparison.run("failed").fate == "failed after step 20 of 100"
    assert comparison.run("nan").fate == "its loss is not finite from step 41 on"


def test_a_lost_intervention_is_a_problem_and_not_the_end(made):
    directory = made("a", edits=[(50, {"optim.lr": 1.0})])
    lines = directory.journal_path.read_bytes().split(b"\n")
    lines[1] = b'{"time": damaged'
    directory.journal_path.write_bytes(b"\n".join(lines))
    comparison = compare([gather(directory), made.read("b")])
    assert [run.name for run in comparison.runs] == ["a", "b"]
    assert "may have held an intervention" in comparison.run("a").problems[0]


def test_runs_of_one_name_are_told_apart_by_their_directories(made, tmp_path):
    first, second = made.read("a"), type(made)(tmp_path / "elsewhere").read("a")
    comparison = compare([first, second, made.read("b")])
    assert [run.name for run in comparison.runs] == ["runs/a", "elsewhere/a", "b"]
    assert numbers_of(comparison).keys() == {"runs/a", "elsewhere/a", "b"}


def test_seeds_are_judged_where_two_of_some_setting_were_given_as_much(made):
    def run(name, seed, lr, value, **how):
        return made.read(name, {"train.seed": seed, "optim.lr": lr}, losses=lambda step: value, **how)

    runs = [
        run("a0", 0, 0.001, 1.0),
        run("a1", 1, 0.001, 1.1),
        run("b0", 0, 0.01, 3.0),
        run("b1", 1, 0.01, 3.1, done=20, end="failed"),
    ]
    comparison = compare(runs)
    judged = next(
        judgement for judgement in comparison.judged if judgement.what.startswith("Loss components")
    )
    assert judged.what == "Loss components at 1,000 images seen"
    (seeds,) = judged.seeds
    assert [(judgement.label, judgement.values, judgement.lost) for judgement in seeds.spreads] == [
        ("lr = 0.001", pytest.approx((1.0, 1.1)), ()),
        ("lr = 0.01", pytest.approx((3.0,)), ("b1",)),
    ]
    assert seeds.contrasts[0].verdict == "one seed: spread unknown"
    whole = compare([*runs[:3], run("b1-whole", 1, 0.01, 3.1)])
    assert whole.judged[0].seeds[0].contrasts[0].verdict == "higher"
    assert compare(runs[::2]).judged == ()


def test_plain_facts_are_json_with_every_reason(made):
    a = made.read("a", evaluated={"FD": 4.0})
    b = made.read("b", {"method.prediction": "x0"}, evaluated={"FD": 3.0}, data={**DATA, "fingerprint": "d2"})
    facts = json.loads(json.dumps(compare([a, b]).to_dict(), default=str))
    assert [setting["key"] for setting in facts["settings"]] == ["method.prediction"]
    (apart,) = facts["at"][0]["components"]["apart"]
    assert {fact["fact"] for fact in apart["facts"]} == {"data fingerprint", "method.prediction"}
    rows = facts["metrics"]["columns"][0]["rows"]
    assert {row["run"]: row["numbers"]["FD"]["value"] for row in rows} == {"a": 4.0, "b": 3.0}
    assert facts["pictures"]["images"]["pairs"] == []
    assert facts["runs"][0]["images"] == 1000


def test_a_run_of_another_version_is_left_out_with_its_reason(made, tmp_path):
    directory = create(
        tmp_path / "runs", "x = 1\n", recipe="r", steps=1, facts=Facts({}, {}, {}, {}), name="old"
    )
    start = {"time": "soon", "kind": "session", "session": 1, "edits": 0, "step": 0, "steps": 1}
    directory.journal_path.write_bytes(sealed.line(start))
    run = gather(RunDirectory(directory.path))
    assert not run.readable
    assert "was written by another version" in run.problems[0]
    assert [unread.name for unread in compare([run, made.read("a")]).unreadable] == ["old"]


def test_skipped_steps_are_told(made):
    run = made.read("a", extra=lambda step: {"grad_norm/denoiser": math.inf if step in (3, 9) else 1.0})
    assert run.fate == "2 steps were skipped: a gradient was not finite"
