"""Samples by the thousand: written as they are drawn, whole or not at all, and gone on with to the byte."""

from __future__ import annotations

import csv
import json
import tarfile
import weakref
from pathlib import Path

import filelock
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import toys
from models import model_of
from safelight.config import UserError
from safelight.data import open_data
from safelight.data.config import Data
from safelight.explore import output as module
from safelight.explore.conditions import MaskFiles
from safelight.explore.output import Output, fitting_chunk
from safelight.explore.samples import Samples
from safelight.run import Run
from safelight.types import Condition, DataSpec

FEW = {"sample.steps": 1}


def content(place: Path) -> dict[str, bytes]:
    """The bytes of a folder's files, or of one file."""
    files = [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
    return {str(path.relative_to(place)): path.read_bytes() for path in files}


def tear(part: Path, rows: int) -> None:
    """What a kill in the middle of a chunk leaves: files, and ends of files, that nobody has noted."""
    for name in ("tar", "metadata.csv"):
        with (part / name).open("ab") as file:
            file.write(b"half a chunk")
    for row in (rows, 20):  # also of a longer request
        (part / f"{row:06d}.png").write_bytes(b"half a picture")


@pytest.mark.parametrize("name", ["folder", "samples.tar"])
def test_what_was_cut_off_goes_on_to_the_same_bytes(finished, tmp_path, monkeypatch, name):
    run = Run(finished)
    whole = run.save_samples(tmp_path / "whole" / name, 10, chunk=2, seed=3, how=FEW)
    add, out = Output.add, tmp_path / name
    for stop in (1, 3):

        def stopping(self, samples, stop=stop):
            if self.rows >= 2 * stop:
                raise KeyboardInterrupt
            return add(self, samples)

        monkeypatch.setattr(Output, "add", stopping)
        with pytest.raises(KeyboardInterrupt):
            run.save_samples(out, 10, chunk=2, seed=3, how=FEW)
        assert not out.exists()
        tear(tmp_path / f"{name}.part", 2 * stop)
    monkeypatch.setattr(Output, "add", add)
    drawn = []
    monkeypatch.setattr(Output, "add", lambda self, samples: drawn.append(self.rows) or add(self, samples))
    assert run.save_samples(out, 10, seed=3, how=FEW) == out  # with the chunks that it began with
    assert drawn == [6, 8]
    assert content(out) == content(whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "whole"])
    assert sorted(path.name for path in whole.parent.iterdir()) == [name]


def test_samples_in_chunks_are_those_drawn_at_once(finished):
    run = Run(finished)
    once = run.sample(7, seed=1, how=FEW)
    parts = list(run.stream(7, chunk=3, seed=1, how=FEW))
    assert [len(part.images) for part in parts] == [3, 3, 1]
    assert (np.concatenate([part.images for part in parts]) == once.images).all()
    assert np.concatenate([part.given["label"] for part in parts]).tolist() == [0, 1, 2, 3, 4, 5, 6]
    (last,) = run.stream(7, chunk=3, first=5, seed=1, how=FEW)
    assert (last.images == once.images[5:]).all()
    assert [cell["label"] for cell in last.cells] == ["5", "6"]


def test_no_more_than_a_chunk_is_held(finished, tmp_path, monkeypatch):
    """Besides the one that is drawn, at most the one before it."""
    images, alive = [], []

    def watched(*arguments):
        samples = module.drawn(*arguments)
        images.append(weakref.ref(samples.images))
        alive.append(sum(image() is not None for image in images))
        return samples

    monkeypatch.setattr("safelight.run.drawn", watched)
    Run(finished).save_samples(tmp_path / "folder", 12, chunk=2, how=FEW)
    assert (len(alive), max(alive)) == (6, 2)


def test_a_tar_has_the_names_of_webdataset_and_a_folder_a_table(finished, tmp_path):
    run = Run(finished)
    stated = {"how": FEW, "conditions": {"label": "7"}}
    run.save_samples(tmp_path / "folder", 3, **stated)
    run.save_samples(tmp_path / "s.tar", 3, **stated)
    with (tmp_path / "folder" / "metadata.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows == [{"file_name": f"00000{row}.png", "label": "7"} for row in range(3)]
    facts = json.loads((tmp_path / "folder" / "samples.json").read_text())
    assert (facts["count"], facts["seed"], facts["step"]) == (3, "0", 30)
    with tarfile.open(tmp_path / "s.tar") as tar:
        names = [f"00000{row}.{end}" for row in range(3) for end in ("png", "cls", "json")]
        assert tar.getnames() == [*names, "__samples__/samples.json"]
        assert tar.extractfile("000001.cls").read() == b"7"
        assert json.load(tar.extractfile("000001.json")) == {"label": "7"}
        for row in range(3):
            picture = (tmp_path / "folder" / f"00000{row}.png").read_bytes()
            assert tar.extractfile(f"00000{row}.png").read() == picture
    read = open_data(Data(source="folder", path=str(tmp_path / "s.tar"), size=28, channels=1, held_out=0))
    images = {image.tobytes() for image in np.asarray(read.images)}
    assert images == {image.tobytes() for image in run.sample(3, **stated).images}


def test_masks_attributes_and_texts_are_beside_the_pictures(tmp_path):
    samples = Samples(
        np.zeros((2, 4, 4, 3), np.uint8), {}, np.array([True, False]), DataSpec((3, 4, 4)), {},
        [{"hair": 0.5, "text": "red, round"}, {"hair": "", "text": ""}], np.full((2, 4, 4), 3, np.uint8),
    )  # fmt: skip
    samples.save(tmp_path / "folder")
    table = (tmp_path / "folder" / "metadata.csv").read_text()
    assert table.splitlines() == [
        "file_name,mask,hair,text",
        '000000.png,masks/000000.png,0.5,"red, round"',
        "000001.png,masks/000001.png,,",
    ]
    assert (np.asarray(Image.open(tmp_path / "folder" / "masks" / "000001.png")) == 3).all()
    samples.save(tmp_path / "s.tar")
    with tarfile.open(tmp_path / "s.tar") as tar:
        assert tar.getnames()[:6] == ["000000.png", "000000.mask.png", "000000.txt", "000000.json",
                                      "000001.png", "000001.mask.png"]  # fmt: skip
        assert tar.extractfile("000000.txt").read() == b"red, round"


def test_another_request_does_not_go_on_with_what_is_there(finished, tmp_path, monkeypatch):
    run, out = Run(finished), tmp_path / "folder"
    monkeypatch.setattr(Output, "finish", lambda self: self.part)
    part = run.save_samples(out, 4, chunk=2, how=FEW)
    before = content(part)
    for words, request in {
        "another seed": {"seed": 1, "how": FEW},
        "another conditions": {"label": 3, "how": FEW},
        "another sampling": {},
        "another chunk": {"chunk": 4, "how": FEW},
    }.items():
        with pytest.raises(UserError, match=f"folder.part: holds samples of {words};"):
            run.save_samples(out, 6, **request)
    with pytest.raises(UserError, match="has 4 samples; ask for as many, or delete it"):
        run.save_samples(out, 3, how=FEW)
    with (
        filelock.FileLock(part / "lock"),
        pytest.raises(UserError, match="is being written by another process"),
    ):
        run.save_samples(out, 6, how=FEW)
    assert content(part) == before


def test_a_long_request_is_estimated_and_one_without_room_refused(tmp_path):
    """Of 100,000 samples 100 took 2 seconds and 5 kB: what is left takes 1,998 seconds and 4.995 MB."""
    output, lines = Output(tmp_path / "s.tar", {}, 100), []
    output.part.mkdir()
    output.rows = 100
    output.estimate(100_000, 2.0, 5000, lines.append)
    assert lines == [
        "100,000 samples: about 0:33:18 (50.0/s), 5.0 MB; Ctrl-C stops, the same command goes on"
    ]
    output.estimate(1000, 2.0, 5000, lines.append)
    assert len(lines) == 1
    with pytest.raises(UserError, match=r"takes about .* more, and .* are free; make room"):
        output.estimate(10**15, 2.0, 5000, lines.append)


def test_a_chunk_is_what_the_memory_holds(monkeypatch):
    """Layers put out 8 and 4 numbers, and the network 4: 64 bytes, of a quarter of what is free."""

    class Layers(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 4)

        def forward(self, z, given, present):
            return self.last(self.first(z)).unflatten(1, (1, 2, 2))

    class Bare:
        latent = staticmethod(lambda draw: draw.normal("latent", 3))
        sample = staticmethod(lambda nets, z, given, present, draw, how: nets["generator"](z, given, present))

    model = model_of(Bare(), {"generator": Layers()}, toys.NoSettings(), DataSpec((1, 2, 2)))
    conditions = {}, torch.zeros(1, dtype=torch.bool)
    for free, chunk in ((10**12, module.CHUNK), (64 * 4 * 9 + 5, 9), (0, 1)):
        monkeypatch.setattr(module, "memory", lambda device, free=free: free)
        assert fitting_chunk(model, *conditions) == chunk


def test_masks_of_a_folder_are_read_when_they_are_used(tmp_path, monkeypatch):
    spec = DataSpec((1, 2, 2), {"mask": Condition("mask", 3)})
    for number in range(3):
        Image.fromarray(np.full((2, 2), number, np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "9.png").write_bytes(b"no picture")
    monkeypatch.setattr("safelight.explore.conditions.CHECKED", 2)
    masks = MaskFiles("mask", str(tmp_path), spec)
    assert (len(masks), masks.numbers([2, 0]).tolist()) == (4, [[[2, 2], [2, 2]], [[0, 0], [0, 0]]])
    assert masks[torch.tensor([1])][0, :, 0, 0].tolist() == [0, 1, 0]
    with pytest.raises(UserError, match=r"condition mask=.*9\.png: "):
        masks.numbers([3])
