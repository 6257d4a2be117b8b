"""Measuring the samples of a run: what with, on which conditions. Nothing here changes a weight."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from torch import Tensor

from safelight.data import open_data
from safelight.data.pack import Pack
from safelight.data.source import NOT_MASKED, Progress
from safelight.data.stream import Stream
from safelight.evaluate.evaluation import Evaluation, Result
from safelight.evaluate.extractors import of_images_alone, open_extractor, open_reader
from safelight.evaluate.features import READER, Extractor, extract
from safelight.evaluate.measure import Drawn, measure, real_features, reference_items
from safelight.evaluate.regressor import Regressor, open_regressor
from safelight.evaluate.scores import diversity
from safelight.evaluate.segmenter import Segmenter, open_segmenter
from safelight.randomness import permutation
from safelight.recipe import Recipe
from safelight.samplers.generate import chunks, generate_rows
from safelight.types import Autocast, Batch, Method, Nets, Tell

READ = 1000  # samples that are read, of trained texts and of held-out ones


TOLD, EACH = 16, 8  # texts of which the samples' diversity is measured, and samples of each


@dataclass(frozen=True)
class Generator:
    """What samples are drawn with: a method, its networks in evaluation mode, and how."""

    method: Method
    nets: Nets
    how: BaseModel
    average: str  # in words, which weights these are
    autocast: Autocast
    arithmetic: str  # "fp32"
    device: torch.device


@dataclass(frozen=True)
class SampleJudge:
    """What samples are measured with."""

    pack: Pack  # with classes where the extractor learns them
    extractor: Extractor
    reference: int  # training images compared with, at most
    segmenter: Segmenter | None = None  # where samples follow masks
    regressor: Regressor | None = None  # where they have attributes


def open_judge(
    features: str | None, reference: int, recipe: Recipe, pack: Pack, device: torch.device, tell: Tell,
    progress: Progress | None = None,
) -> SampleJudge:  # fmt: skip
    """The extractor of a name or path, and the data it looks at. Raises UserError.

    A recipe that trains without classes is still measured by a classifier where its data has them.
    Samples that follow masks are judged by a segmenter, too, and a regressor reads the attributes of those
    that were asked for some. features: by default the classifier where there are classes, the segmenter where
    there are masks, a reader of texts where there are captions, efficientnet otherwise, random without that.
    """
    if features in (None, "classifier") and not pack.spec.classes:
        pack = open_data(recipe.data.model_copy(update={"labels": True}), progress)
    if features is None:
        text = "text" in pack.spec.conditions and any(pack.texts)
        if pack.spec.classes:
            features = "classifier"
        else:
            features = "segmenter" if "mask" in pack.described else READER if text else of_images_alone(tell)
    segmenter = open_segmenter(pack, device, tell, progress) if "mask" in pack.described else None
    extractor = open_extractor(features, pack, device, tell, progress)
    return SampleJudge(pack, extractor, reference, segmenter, open_regressor(pack, device, tell, progress))


def evaluate(
    generator: Generator,
    stream: Stream,
    judge: SampleJudge,
    n: int,
    seed: int,
    *,
    step: int,
    weights: str = "",
    progress: Progress | None = None,
) -> Evaluation:
    """Every metric of n samples under the conditions of training images, drawn and measured in chunks.

    Where samples are told texts, they are also read, those of trained texts and of held-out ones.
    stream: of the data the generator trained on. weights: digest of the checkpoint.
    """
    settings = ", ".join(f"{name} {value}" for name, value in generator.how.model_dump().items())
    sampling = {
        "sampling": settings or "one evaluation",
        "conditions": "of training images in a keyed order" if stream.pack.spec.conditions else "none",
        "seed": str(seed),
        "weights": generator.average,
        "arithmetic": generator.arithmetic,
    }
    found = measure(
        _drawn(generator, stream, n, seed, progress),
        judge.pack,
        judge.extractor,
        judge.reference,
        step=step,
        weights=weights,
        sampling=sampling,
        segmenter=judge.segmenter,
        regressor=judge.regressor,
        progress=progress,
    )
    return read(found, generator, stream, min(n, READ), seed, progress)


def read(
    evaluation: Evaluation, generator: Generator, stream: Stream, n: int, seed: int, progress: Progress | None
) -> Evaluation:
    """An evaluation with how well samples show their texts, beside real images with theirs.

    Texts are those of training images, and of held-out ones, at most n of each.
    """
    pack = stream.pack
    if "text" not in pack.spec.conditions or not any(pack.texts):
        return evaluation
    reader = open_reader(pack, generator.device, lambda line: None, progress)
    results = dict(evaluation.results)
    told = []
    for side, every in ((" unseen", pack.held_out), ("", reference_items(pack, len(pack.train)))):
        items = every[pack.present[every]][:n]
        if len(items) < 2:
            continue
        texts = [pack.texts[int(item)][0] for item in items]
        asked = (
            replace(stream.pick(items[rows.start : rows.stop]), rows=rows) for rows in chunks(len(items))
        )
        images = (_images(generator, stream, one, seed) for one in asked)
        samples = reader.scores(extract(reader.extractor, images).values, texts)
        real = reader.scores(real_features(reader.extractor, pack, items).values, texts)
        if not side:
            real = {}  # the reader has learned these images: how well it reads is known from the others
            results["diversity of one text"] = _varied(generator, stream, reader.extractor, items, seed)
        for name, own in samples.items():
            floor = real[name].value if name in real else None
            results[f"{name}{side}"] = Result(own.value, own.spread, floor)
        told.append(f"{len(items):,} of {'held-out' if side else 'training'} images")
    words = f"{reader.told}; texts of {' and of '.join(told)}; reader {reader.extractor.hash}"
    return replace(evaluation, results=results, basis={**evaluation.basis, "texts": words})


def _varied(
    generator: Generator, stream: Stream, extractor: Extractor, items: NDArray[np.int64], seed: int
) -> Result:
    """How far apart samples of one text lie, of a few items; beside images of items that share their text."""
    pack = stream.pack
    told = np.repeat(items[:TOLD], EACH)
    asked = (replace(stream.pick(told[rows.start : rows.stop]), rows=rows) for rows in chunks(len(told)))
    samples = extract(extractor, (_images(generator, stream, one, seed) for one in asked)).values
    texts = [pack.texts[int(item)][0] for item in items]
    number = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    alike = torch.tensor([number[text] for text in texts])
    real = diversity(real_features(extractor, pack, items).values, alike)
    of_text = torch.arange(len(told)).div(EACH, rounding_mode="floor")
    return Result(diversity(samples, of_text), None, None if math.isnan(real) else real)


def _drawn(
    generator: Generator, stream: Stream, n: int, seed: int, progress: Progress | None
) -> Iterator[Drawn]:
    for rows in chunks(n):
        items = condition_items(stream.pack, rows)
        asked = replace(stream.pick(items), rows=rows)
        images = _images(generator, stream, asked, seed)
        yield Drawn(images, _wanted(asked), _masks(stream.pack, items), _attributes(asked))
        if progress:
            progress("samples", rows.stop, n)


def _images(generator: Generator, stream: Stream, asked: Batch, seed: int) -> NDArray[np.uint8]:
    """Samples under a batch's conditions: (b, H, W, C)."""
    x = generate_rows(
        generator.method,
        generator.nets,
        generator.how,
        asked.rows,
        asked.given,
        asked.present,
        seed,
        generator.autocast,
    )
    return stream.space.to_pixels(x)


def condition_items(pack: Pack, rows: range) -> NDArray[np.int64]:
    """The training items whose conditions samples are asked for, (b,): each once before any comes again.

    So classes, and whatever else samples are conditioned on, are in the shares of the data.
    """
    rounds, places = np.divmod(np.asarray(rows), len(pack.train))
    items = np.empty(len(rows), np.int64)
    for number in np.unique(rounds).tolist():
        order = permutation(len(pack.train), "conditions", number)
        items[rounds == number] = pack.train[order[places[rounds == number]]]
    return items


def _masks(pack: Pack, items: NDArray[np.int64]) -> NDArray[np.uint8] | None:
    """The masks samples were asked for, (b, H, W); of no class throughout where they were withheld."""
    if "mask" not in pack.given:
        return None
    present = pack.present[items][:, None, None]
    return np.where(present, np.asarray(pack.given["mask"][items]), NOT_MASKED).astype(np.uint8)


def _attributes(asked: Batch) -> NDArray[np.float32] | None:
    """The attributes samples were asked for, (b, A), not-a-number where they were withheld."""
    if "attributes" not in asked.given:
        return None
    values = torch.where(asked.present[:, None], asked.given["attributes"].float(), torch.nan)
    return np.asarray(values.cpu().numpy(), np.float32)


def _wanted(asked: Batch) -> Tensor:
    if "label" not in asked.given:
        return torch.full((len(asked.present),), -1)
    return torch.where(asked.present, asked.given["label"], -1).cpu()


def average_told(recipe: Recipe, method: Method, length: float | None = None, error: float = 0.0) -> str:
    """Which weights samples are drawn with, in words.

    length: of a power-function average, relative; error: what its profile is off by.
    """
    if not method.ema or (length is None and not recipe.train.ema):
        return "as trained"
    if length is not None:
        off = f", off by {error:.0%}" if error >= 0.005 else ""
        return f"average of relative length {length:g}{off}"
    return f"average with decay {recipe.train.ema:g}"
