"""Metrics that somebody else wrote, or a disk: what can be read is read, row by row."""

from __future__ import annotations

from pathlib import Path

import pytest

from safelight.store import metrics
from store.strange_runs import made


def test_a_flipped_bit_in_metrics_loses_its_row_and_no_more(tmp_path: Path) -> None:
    run = made(tmp_path, "a").path
    path = run / "metrics-0001.jsonl"
    whole, before = path.read_bytes(), metrics.rows(run)
    assert [row.step for row in before] == [0, 1, 2]
    begin, end = (whole.index(b"\n") + 1, whole.index(b"\n", whole.index(b"\n") + 1))
    for position in range(begin, end):
        for bit in range(8):
            byte = whole[position] ^ (1 << bit)
            if byte == 0x0A:
                continue
            path.write_bytes(whole[:position] + bytes([byte]) + whole[position + 1 :])
            assert metrics.rows(run) == before[1:]
            assert metrics.last_rows(run, 9) == before[1:]


def test_metrics_of_the_first_version_are_read_and_go_on_with_checksums(tmp_path: Path) -> None:
    run = tmp_path
    old = b'{"session": 1, "start": 0}\n{"step":0,"images":4,"seconds":0.5,"total":2.0,"fingerprint":"aa"}\n'
    (run / "metrics-0001.jsonl").write_bytes(old)
    with metrics.MetricsWriter(run, 2, 1) as rows:
        rows.append([metrics.MetricsRow(1, {}, 1.0, {}, 8, 0.5, "bb")])
    assert [(row.step, row.total, row.fingerprint) for row in metrics.rows(run)] == [
        (0, 2.0, "aa"),
        (1, 1.0, "bb"),
    ]
    assert b"check" in (run / "metrics-0002.jsonl").read_bytes()


@pytest.mark.parametrize("value", ["null", '"abc"', "[]", "{}", "true", '{"a": 1}'])
def test_a_row_without_numbers_is_passed_over(tmp_path: Path, value: str) -> None:
    rows = [f'{{"step":{step},"images":{step},"seconds":1,"total":{total},"fingerprint":"a"}}'
            for step, total in ((0, 1.5), (1, value), (2, 2.5))]  # fmt: skip
    (tmp_path / "metrics-0001.jsonl").write_text('{"start":0}\n' + "\n".join(rows) + "\n")
    assert [row.step for row in metrics.rows(tmp_path)] == [0, 2]
    assert metrics.read(tmp_path)["total"].tolist() == [1.5, 2.5]


def test_rows_that_go_back_are_not_taken(tmp_path: Path) -> None:
    rows = [
        f'{{"step":{step},"images":1,"seconds":1,"total":1,"fingerprint":"a"}}'
        for step in (5, 3, 6, 6, 10**40)
    ]
    (tmp_path / "metrics-0001.jsonl").write_text('{"start":4}\n' + "\n".join(rows) + "\n")
    assert [row.step for row in metrics.rows(tmp_path)] == [5, 6]
    assert [row.step for row in metrics.last_rows(tmp_path, 9)] == [5, 6]
