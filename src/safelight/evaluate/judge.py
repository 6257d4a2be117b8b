"""Measuring the samples of a run: what with, on which conditions. Nothing here changes a weight."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import tee

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from safelight.data import open_data
from safelight.data.config import Data
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
from safelight.samplers.generate import chunks
from safelight.types import Batch, Tell

READ = 1000  # samples that are read, of trained texts and of held-out ones
Sampler = Callable[[Iterable[Batch]], Iterable[NDArray[np.uint8]]]  # (b, H, W, C) for each batch, by its rows
TEXTS, EACH = 16, 8  # texts of which the samples' diversity is measured, and samples of each


@dataclass(frozen=True)
class SampleJudge:
    """What samples are measured with."""

    pack: Pack  # with classes where the extractor learns them
    extractor: Extractor
    reference: int  # training images compared with, at most
    segmenter: Segmenter | None = None  # where samples follow masks
    regressor: Regressor | None = None  # where they have attributes


def open_judge(
    features: str | None, reference: int, data: Data, pack: Pack, device: torch.device, tell: Tell,
    progress: Progress | None = None,
) -> SampleJudge:  # fmt: skip
    """The extractor of a name or path, and the data it looks at. Raises UserError.

    data: as the recipe has it, with the files of the encoders it names.
    A recipe that trains without classes is still measured by a classifier where its data has them.
    Samples that follow masks are judged by a segmenter, too, and a regressor reads the attributes of those
    that were asked for some. features: by default the classifier where there are classes, the segmenter where
    there are masks, a reader of texts where there are captions, efficientnet otherwise, random without that.
    """
    if features in (None, "classifier") and not pack.spec.classes:
        pack = open_data(data.model_copy(update={"labels": True}), progress)
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
    sample: Sampler,
    sampling: Mapping[str, str],
    stream: Stream,
    judge: SampleJudge,
    n: int,
    *,
    step: int,
    weights: str = "",
    progress: Progress | None = None,
) -> Evaluation:
    """Every metric of n samples under the conditions of training images, drawn and measured in chunks.

    Where samples are told texts, they are also read, those of trained texts and of held-out ones.
    sampling: how samples are drawn, in words. stream: of the data the generator trained on.
    weights: digest of the checkpoint.
    """
    evaluation = measure(
        _drawn(sample, stream, n, progress),
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
    return read(evaluation, sample, stream, min(n, READ), progress)


def read(
    evaluation: Evaluation, sample: Sampler, stream: Stream, n: int, progress: Progress | None
) -> Evaluation:
    """An evaluation with how well samples show their texts, beside real images with theirs.

    Texts are those of training images, and of held-out ones, at most n of each.
    """
    pack = stream.pack
    if "text" not in pack.spec.conditions or not any(pack.texts):
        return evaluation
    reader = open_reader(pack, stream.device, lambda line: None, progress)
    results = dict(evaluation.results)
    described = []
    for side, every in ((" unseen", pack.held_out), ("", reference_items(pack, len(pack.train)))):
        items = every[pack.present[every]][:n]
        if len(items) < 2:
            continue
        texts = [pack.texts[int(item)][0] for item in items]
        batches = (stream.conditions(items[rows.start : rows.stop], rows) for rows in chunks(len(items)))
        samples = reader.scores(extract(reader.extractor, sample(batches)).values, texts)
        real = reader.scores(real_features(reader.extractor, pack, items).values, texts)
        if not side:
            real = {}  # the reader has learned these images: how well it reads is known from the others
            results["diversity of one text"] = _varied(sample, stream, reader.extractor, items)
        for name, score in samples.items():
            floor = real[name].value if name in real else None
            results[f"{name}{side}"] = Result(score.value, score.spread, floor)
        described.append(f"{len(items):,} of {'held-out' if side else 'training'} images")
    words = f"{reader.description}; texts of {' and of '.join(described)}; reader {reader.extractor.hash}"
    return replace(evaluation, results=results, basis={**evaluation.basis, "texts": words})


def _varied(sample: Sampler, stream: Stream, extractor: Extractor, items: NDArray[np.int64]) -> Result:
    """How far apart samples of one text lie, of a few items; beside images of items that share their text."""
    pack = stream.pack
    shown = np.repeat(items[:TEXTS], EACH)
    batches = (stream.conditions(shown[rows.start : rows.stop], rows) for rows in chunks(len(shown)))
    samples = extract(extractor, sample(batches)).values
    texts = [pack.texts[int(item)][0] for item in items]
    number = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    alike = torch.tensor([number[text] for text in texts])
    real = diversity(real_features(extractor, pack, items).values, alike)
    of_text = torch.arange(len(shown)).div(EACH, rounding_mode="floor")
    return Result(diversity(samples, of_text), None, None if math.isnan(real) else real)


def _drawn(sample: Sampler, stream: Stream, n: int, progress: Progress | None) -> Iterator[Drawn]:
    picked = (
        (items := condition_items(stream.pack, rows), stream.conditions(items, rows)) for rows in chunks(n)
    )
    kept, sampled = tee(picked)  # a sampler may be ahead
    for (items, batch), images in zip(kept, sample(batch for _, batch in sampled), strict=True):
        rows = batch.rows
        yield Drawn(images, _labels(batch), _masks(stream.pack, items), _attributes(batch))
        if progress:
            progress("samples", rows.stop, n)


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
    return np.where(present, pack.mask_numbers(items), NOT_MASKED).astype(np.uint8)


def _attributes(batch: Batch) -> NDArray[np.float32] | None:
    """The attributes samples were asked for, (b, A), not-a-number where they were withheld."""
    if "attributes" not in batch.given:
        return None
    values = torch.where(batch.present[:, None], batch.given["attributes"].float(), torch.nan)
    return np.asarray(values.cpu().numpy(), np.float32)


def _labels(batch: Batch) -> Tensor:
    if "label" not in batch.given:
        return torch.full((len(batch.present),), -1)
    return torch.where(batch.present, batch.given["label"], -1).cpu()
