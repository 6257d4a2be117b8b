"""Stored evaluations come back by step, and a damaged one does not hide the others."""

from __future__ import annotations

from safelight.store import results


def test_evaluations_by_step_and_damaged_ones_told(tmp_path):
    assert results.read_all(tmp_path) == ([], [])
    for step in (900, 100):
        results.store(tmp_path, f"{step:08d}-classifier-ab", {"step": step, "results": {"KID": 1e-3}})
    results.store(tmp_path, "00000900-inception-cd", {"step": 900, "results": {"KID": 2e-3}})
    path = results.store(tmp_path, "00000500-classifier-ab", {"step": 500})
    path.write_text(path.read_text().replace("500", "501"))
    evaluations, damaged = results.read_all(tmp_path)
    assert evaluations == [
        {"step": 100, "results": {"KID": 1e-3}},
        {"step": 900, "results": {"KID": 1e-3}},
        {"step": 900, "results": {"KID": 2e-3}},
    ]
    assert len(damaged) == 1
    assert "00000500-classifier-ab.json: is damaged" in damaged[0]


def test_the_same_evaluation_again_takes_its_place(tmp_path):
    for value in (1.0, 2.0):
        results.store(tmp_path, "00000100-classifier-ab", {"value": value})
    assert results.read_all(tmp_path) == ([{"value": 2.0}], [])
