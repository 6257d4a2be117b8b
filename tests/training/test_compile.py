"""A run in fp16, or compiled: recorded, replayed exactly, and read as any other."""

from __future__ import annotations

import pytest
import torch

from safelight.engine.distributed import World
from safelight.loading.replay import replay
from safelight.recipe import load
from safelight.store import checkpoint, checkpoint_files
from safelight.training.progress import Show
from safelight.training.start import begin

SHORT = {"train.steps": 6, "checkpoint.every": 3, "watch.every": 6, "watch.held_out": 0, "watch.images": 2}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"train.precision": "fp16"}, {"precision": "fp16", "compile": "off"}),
        ({"train.compile": "aot_eager"}, {"precision": "fp32", "compile": "aot_eager"}),
        pytest.param(
            {"train.compile": True}, {"precision": "fp32", "compile": "inductor"}, marks=pytest.mark.slow
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_run_records_how_it_computes_and_is_replayed_to_the_bit(tiny, tmp_path, changes, expected):
    whole = begin(load("digits-class", tiny | SHORT | changes), tmp_path, "whole", World(), Show())
    session = whole.journal().of_kind("session")[-1].fields["environment"]
    assert {key: session[key] for key in expected} == expected
    assert {key: whole.info().facts.execution[key] for key in expected} == expected
    groups = checkpoint.load(checkpoint_files.directory(whole.path, 6))
    assert not [name for group in groups.values() for name in group if "_orig_mod" in name]
    assert ("scales" in groups) is (expected["precision"] == "fp16")
    torch._dynamo.reset()
    state, verdict = replay(whole, 5)
    assert (verdict.verdict, verdict.why) == ("exact", ())
    assert state.step == 5
