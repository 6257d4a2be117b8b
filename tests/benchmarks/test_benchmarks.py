"""The benchmarks still run, and their tables say what was timed. What they time is not tested here."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from safelight.cli.options import changes_of
from safelight.engine.precision import candidates
from safelight.evaluate import classifier
from safelight.recipe import load

FOLDER = Path(__file__).parents[2] / "benchmarks"


def opened(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A script as a module, its number of threads and its arguments kept from the tests."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look there
    monkeypatch.setattr(sys, "argv", [name])
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    spec.loader.exec_module(module)
    return module


def rows(text: str) -> list[list[str]]:
    """The cells of a table's rows, without its head."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines[2:]]


def test_overhead_tells_medians_of_blocks_in_milliseconds_a_step(monkeypatch):
    module = opened("overhead", monkeypatch)
    case = module.Case("x", {}, module.PLAIN, steps=2)
    bare = [0.2, 0.4, 9.0]  # one disturbed block
    blocks = [(module.Clock(seconds + 0.006, 0.004), module.Clock(seconds, 0.0)) for seconds in bare]
    (cells,) = rows("|||\n|---|\n" + module.row_of(case, blocks))
    assert cells == ["x", "200.00", "203.00", "3.00", "1.5%", "2.00", "kept"]
    slow = [(module.Clock(seconds + 0.014, 0.0), module.Clock(seconds, 0.0)) for seconds in bare]
    assert module.row_of(case, slow).endswith("| missed |")


def test_overhead_runs(monkeypatch, capsys):
    module = opened("overhead", monkeypatch)
    small = module.Case("small", {**module.SMALL, "train.ema_lengths": [0.1]}, module.PLAIN, steps=2)
    monkeypatch.setattr(module, "CASES", [small])
    monkeypatch.setattr(module, "BLOCKS", 3)
    module.main()
    ((title, bare, engine, difference, *_),) = rows(capsys.readouterr().out)
    assert title == "small"
    assert float(bare) > 0
    assert float(engine) > 0
    assert float(difference) != 0


def test_formats_runs_every_combination(monkeypatch, capsys):
    module = opened("formats", monkeypatch)
    changes = {"network.width": 8, "network.multipliers": [1], "network.middle": 1, "train.batch_size": 4}
    monkeypatch.setattr(module, "CASES", {"small": ("digits", changes)})
    monkeypatch.setattr(module, "ROUNDS", 2)
    module.main()
    ((title, *rates),) = rows(capsys.readouterr().out)
    assert title == "small"
    assert len(rates) == len(candidates(torch.device("cpu"), "auto", "auto"))
    assert rates[0].endswith("(1.00x)")


def test_samplers_runs_every_sampler_within_its_budget(finished, monkeypatch, capsys):
    module = opened("samplers", monkeypatch)
    for name, value in {"FEWEST": 300, "MOST": 300, "VERSION": "of this test"}.items():
        monkeypatch.setattr(classifier, name, value)
    for name, value in {"BUDGETS": (1, 4), "REFERENCE": 6, "SAMPLERS": ("euler", "heun")}.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(sys, "argv", ["samplers", str(finished.path), "24"])
    module.main()
    (euler, *first), (heun, *second) = rows(capsys.readouterr().out.partition("\n\n")[2])
    assert (euler, heun) == ("euler", "heun (1, 3)")  # two evaluations an interval, but in the last
    assert first[0] == second[0]  # in one evaluation they are the same step
    assert first[1] != second[1]


def test_what_reaches_the_line_is_bold(monkeypatch):
    module = opened("samplers", monkeypatch)
    assert module.row("x", {4: 1.25, 8: 1.0, 10: 0.5}, 1.0) == "| x | 1.250 | **1.000** | **0.500** |"


def test_economy_counts_both_ways(monkeypatch, capsys):
    module = opened("economy", monkeypatch)
    monkeypatch.setattr("safelight.data.synthetic.skylines.COUNT", 40)
    monkeypatch.setattr("safelight.training.start.write_report", lambda directory: directory.path)
    small = ["network.generator.widths=[8,8]", "network.discriminator.widths=[8,8]", "train.batch_size=4",
             "train.precision=fp32", "train.memory_format=contiguous"]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["economy", "3", *small])
    module.main()
    any_latent, watched, *_ = rows(capsys.readouterr().out.partition("\n\n")[2])
    saved, tape, film = (float(text.replace(",", "")) for text in (any_latent[1], any_latent[2], watched[2]))
    assert watched[1] == any_latent[1]
    assert saved > tape > film > 0
    assert float(any_latent[3].replace(",", "")) == pytest.approx(saved / tape, rel=0.1)


def test_tape_tells_every_way_of_keeping_a_step(monkeypatch, capsys):
    module = opened("tape", monkeypatch)
    small = {
        "network.generator": {"name": "dc_generator", "stem": 8, "stages": [8, 8, 8, 8], "leave": 4},
        "network.discriminator": {"name": "dc_discriminator", "enter": 4, "stages": [4, 4, 4, 4]},
        "train.batch_size": 2,
    }
    monkeypatch.setattr(module, "CHANGES", module.CHANGES | small)
    monkeypatch.setattr(module, "STEPS", 6)
    monkeypatch.setattr(module, "EVERY", 3)
    module.main()
    models, floats, deltas, every, sparse, *_ = rows(capsys.readouterr().out)
    sizes = [float(cells[1]) for cells in (models, floats, deltas, every)]
    assert sizes == sorted(sizes, reverse=True)
    assert float(models[2]) == 1
    assert (models[-1], sparse[-1]) == ("0.000 / 0", every[-1])
    assert (
        int(every[-1].split("/ ")[1]) <= 5
    )  # of 255: first weights of He let rounded ones show more than weights near 0


def test_search_takes_means_over_prompts_and_spreads_over_seeds(monkeypatch, capsys):
    module = opened("search", monkeypatch)
    monkeypatch.setattr(module, "find", lambda run, runs: type("Run", (), {"name": run})())
    monkeypatch.setattr(
        module,
        "best_so_far",
        lambda run, way, prompt, seed, n: np.linspace(0, 1, n) + (prompt == "a") + (way == "cma") * seed,
    )
    monkeypatch.setattr(sys, "argv", ["search", "t1", "101", "a", "b"])
    module.main()
    table = {cells[0]: cells[1:] for cells in rows(capsys.readouterr().out)}
    assert table["random"][-1] == "1.500 ± 0.000"
    assert table["cma"][-1] == "2.500 ± 0.816"


def test_modulated_convolutions_are_the_same_two_ways(monkeypatch, capsys):
    module = opened("modulated", monkeypatch)
    monkeypatch.setattr(module, "CASES", ((2, 4, 4),))
    monkeypatch.setattr(sys, "argv", ["modulated", "1"])
    module.main()
    ((case, *_, ratio),) = rows(capsys.readouterr().out)
    assert case == "2, 4, 4"
    assert float(ratio) > 0
    right = module.grouped
    monkeypatch.setattr(module, "grouped", lambda *layer_x_w: right(*layer_x_w) + 0.1)
    with pytest.raises(AssertionError):
        module.main()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "outcome"),
    [
        ("healthy, relativistic", "well"),
        ("healthy, diffusion", "well"),
        ("healthy, VAE", "well"),
        ("runaway discriminator", "right"),
        ("collapsed, relativistic", "right"),
        ("over-trained generator", "right"),
        ("VAE, weight 1", "right"),
    ],
)
def test_monitors_say_what_is_wrong_with_a_small_run(case, outcome, monkeypatch, tmp_path):
    """The cheapest rows of the table of health.py; the other seeds and rows are in docs/log.md."""
    module = opened("health", monkeypatch)
    run = module.trained(tmp_path, case, seed=31)
    assert module.judged(run, module.CASES[case])[0] == outcome


@pytest.mark.slow
@pytest.mark.parametrize("number", range(10))
def test_a_healthy_young_run_gets_no_verdict(number, monkeypatch, tmp_path):
    """Of every family, on drawn and on real pictures: those need Fashion-MNIST, a copy or the network."""
    module = opened("health", monkeypatch)
    young = [name for name in module.CASES if name.startswith("young")]
    run = module.trained(tmp_path, young[number], seed=31)
    assert module.judged(run, module.CASES[young[number]]) == ("well", "none")


def test_every_case_of_health_is_a_recipe_and_ten_are_young(monkeypatch):
    module = opened("health", monkeypatch)
    for case in module.CASES.values():
        load(case.recipe, case.changes)
    young = [case for name, case in module.CASES.items() if name.startswith("young")]
    assert len(young) == 10
    assert not any(case.right for case in young)


def test_a_verdict_is_right_by_its_name_and_in_time(monkeypatch):
    module = opened("health", monkeypatch)
    case = module.Case("digits", {}, ("mode collapse",), by=0.25)

    class Ended:
        """A run of 100 steps with some verdicts begun."""

        def __init__(self, **begun):
            self.begun = begun

        def journal(self):
            return self

        def of_kind(self, kind):
            return [SimpleNamespace(fields={"begins": True, "name": name.replace("_", " "), "step": step})
                    for name, step in self.begun.items()]  # fmt: skip

        def info(self):
            return SimpleNamespace(steps=100)

    assert module.judged(Ended(mode_collapse=25), case)[0] == "right"
    assert module.judged(Ended(mode_collapse=26), case)[0] == "late"
    assert module.judged(Ended(memorising=9), case)[0] == "missed"
    assert module.judged(Ended(), case) == ("missed", "none")
    assert module.judged(Ended(), module.Case("digits", {})) == ("well", "none")
    assert module.judged(Ended(memorising=9), module.Case("digits", {})) == ("false alarm", "memorising at 9")


def test_the_recipes_adapted_by_hand_are_recipes(monkeypatch, tmp_path):
    folders = opened("folders", monkeypatch)
    monkeypatch.chdir(tmp_path)
    for case in folders.ADAPTED:
        recipe, *words = folders.adapted(case, tmp_path, 100.0, tmp_path)
        changed = load(recipe, changes_of(words))
        assert changed.data.path == str(tmp_path)
        assert changed.train.steps >= 50
    assert load(tmp_path / "captions-encoder.toml").train.steps == 40
    assert load(tmp_path / "skin-autoencoder.toml").train.steps == 150


def test_fanout_simulates_what_saturates(monkeypatch):
    """Alone: start and tasks. Enough workers: a task each. A slow driver: its seconds, one by one."""
    module = opened("fanout", monkeypatch)
    monkeypatch.setattr(module, "DISK", 100.0)
    assert module.simulated(10, 2.0, 1, start=3.0, head=0.0, read=0.0) == 23
    assert module.simulated(10, 2.0, 50, start=3.0, head=0.0, read=10.0) == 3 + 1 + 2
    assert module.simulated(10, 2.0, 10, start=0.0, head=5.0, read=0.0) == 10 * 5 + 2
