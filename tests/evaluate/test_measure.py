"""Evaluations of real images in the place of samples: floors, rankings, and what a number rests on."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator
from hashlib import blake2b

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from safelight.config import UserError
from safelight.data import open_data
from safelight.data.config import Data
from safelight.evaluate import measure as floor_module
from safelight.evaluate import measure as real_module
from safelight.evaluate.distances import floor as frechet_floor
from safelight.evaluate.distances import frechet, moments
from safelight.evaluate.evaluation import Evaluation
from safelight.evaluate.extractors import open_extractor
from safelight.evaluate.features import Extractor, extract
from safelight.evaluate.measure import (
    Drawn,
    classes_of,
    floor,
    measure,
    real_features,
    reference_items,
    sides,
)
from safelight.evaluate.scores import scores

CPU = torch.device("cpu")
SAMPLING = {"sampling": "none: real images", "seed": "0"}


@pytest.fixture(scope="module")
def drawn_from(program, digits) -> Extractor:
    return open_extractor(str(program), digits, CPU, lambda line: None)


def parts(images, wanted, size: int = 90) -> Iterator[Drawn]:
    for start in range(0, len(images), size):
        yield Drawn(images[start : start + size], wanted[start : start + size])


def evaluation(images, wanted, pack, extractor, reference=10_000, **changes) -> Evaluation:
    settings = {"step": 7, "weights": "abc", "sampling": SAMPLING} | changes
    return measure(parts(images, wanted), pack, extractor, reference, **settings)


def noisy(images, strength: float):
    noise = np.random.default_rng(0).normal(0, 1, images.shape)
    return np.clip(images + strength * noise, 0, 255).astype(np.uint8)


def blurred(images, radius: float):
    grey = [Image.fromarray(image[:, :, 0]).filter(ImageFilter.GaussianBlur(radius)) for image in images]
    return np.stack([np.asarray(image) for image in grey])[..., None]


def assert_ranked(extractor: Extractor, pack, count: int) -> None:
    """Distances grow with noise and with blur and coverage falls, from the floor on."""
    images, against, _ = sides(pack, count, count)
    real = real_features(extractor, pack, against)
    clean = pack.images[images]
    for worse, strengths in ((noisy, (0, 20, 40, 80)), (blurred, (0, 0.7, 1.2, 2.0))):
        results = [
            scores(
                extractor, real, extract(extractor, [worse(clean, strength)]), torch.full((len(clean),), -1)
            )
            for strength in strengths
        ]
        for name, rising in ((extractor.frechet, True), (extractor.kernel, True), ("coverage", False)):
            values = [result[name].value for result in results]
            assert values == sorted(values, reverse=not rising), (extractor.name, worse.__name__, name)
            assert values[0] != values[-1]


def test_growing_noise_and_blur_are_ranked_by_the_classifier(classifier, digits):
    assert_ranked(classifier, digits, 600)


def test_growing_noise_and_blur_are_ranked_by_a_program(drawn_from, digits):
    assert_ranked(drawn_from, digits, 600)


@pytest.mark.slow
def test_growing_noise_and_blur_are_ranked_by_efficientnet(digits):
    pytest.importorskip("efficientnet_lite_pytorch")
    assert_ranked(open_extractor("efficientnet", digits, CPU, lambda line: None), digits, 300)


def test_real_images_in_the_place_of_samples_give_the_floor(classifier, digits):
    """The very images of the floor, against their own reference: every metric is its floor."""
    images, against, words = sides(digits, 400, 10_000)
    assert words == "two disjoint parts of the training images, 400 against 1,224"
    measured = scores(
        classifier,
        real_features(classifier, digits, against),
        extract(classifier, [digits.images[images]]),
        classes_of(digits, images),
    )
    lowest = floor(classifier, digits, 400, 10_000, by_class=True)
    assert lowest.images == f"{words}, the Fréchet distance scaled to 400 against 1,624"
    for name in measured:
        if name == "FD-classifier":
            every = real_features(classifier, digits, reference_items(digits, 10_000)).values
            assert lowest.scores[name].value == pytest.approx(frechet_floor(every, 400, 1624), rel=1e-6)
        elif name != "class accuracy":
            assert lowest.scores[name].value == pytest.approx(measured[name].value, rel=1e-5, abs=1e-7)
    assert lowest.scores["class accuracy"].value == classifier.accuracy  # of images it has not learned


def test_the_reference_itself_is_at_no_distance(classifier, digits):
    items = reference_items(digits, 500)
    same = real_features(classifier, digits, items)
    measured = scores(classifier, same, same, classes_of(digits, items))
    assert measured["FD-classifier"].value < 1e-6 * float(moments([same.values]).covariance.trace())
    assert measured["KID-classifier"].value < measured["KID-classifier"].spread
    assert measured["precision"].value == measured["recall"].value == measured["coverage"].value == 1.0


def test_an_evaluation_says_everything_a_number_needs(classifier, digits):
    items = digits.train[:200]
    complete = evaluation(digits.images[items], classes_of(digits, items), digits, classifier, reference=1000)
    shares = ["precision", "recall", "density", "coverage", "diversity", "class accuracy"]
    assert list(complete.results) == ["FD-classifier", "KID-classifier", *shares]
    right = f"right on {classifier.accuracy:.1%} of held-out images"
    assert complete.basis["extractor"] == f"classifier {classifier.hash}, {right}"
    assert complete.basis["n"] == "200"
    assert complete.basis["reference"] == f"1,000 of 1,624 training images, data {digits.fingerprint[:12]}"
    assert "KID over 100 subsets of 100" in complete.basis["metrics"]
    assert complete.basis["seed"] == "0"
    for name, result in complete.results.items():
        assert result.floor is not None
        assert (result.spread is not None) == (name == "KID-classifier")
    assert Evaluation.from_dict(json.loads(json.dumps(complete.to_dict()))) == complete
    assert complete.name.startswith("00000007-classifier-")


def test_other_bases_have_other_names(drawn_from, digits):
    images, none = digits.images[digits.train[:60]], torch.full((60,), -1)
    first = evaluation(images, none, digits, drawn_from)
    assert evaluation(images, none, digits, drawn_from).name == first.name
    others = [
        evaluation(images[:50], none[:50], digits, drawn_from),
        evaluation(images, none, digits, drawn_from, reference=800),
        evaluation(images, none, digits, drawn_from, sampling={**SAMPLING, "seed": "1"}),
    ]
    assert len({first.name, *(other.name for other in others)}) == 4
    assert "class accuracy" not in first.results


def test_diversity_of_samples_that_are_all_alike_is_far_below_its_floor(classifier, digits):
    classes = torch.arange(300) % 10
    labels = classes_of(digits, digits.train)
    chosen = digits.train[[int((labels == number).nonzero()[0]) for number in classes.tolist()]]
    results = evaluation(digits.images[chosen], classes, digits, classifier).results
    assert results["diversity"].value < 0.01 * results["diversity"].floor
    assert results["class accuracy"].value == 1.0
    wrong = evaluation(digits.images[chosen], (classes + 1) % 10, digits, classifier).results
    assert wrong["class accuracy"].value == 0.0


def test_the_floor_is_held_out_against_training_where_enough_are_held_out():
    pack = open_data(Data(source="digits", held_out=0.5))
    count = len(pack.held_out)
    images, against, words = sides(pack, 300, 500)
    assert np.array_equal(images, pack.held_out[:300])
    assert np.array_equal(against, reference_items(pack, 500))
    assert words == "held-out images against training images, 300 against 500"
    assert sides(pack, count + 1, 10_000)[2].startswith("two disjoint parts of the training images")
    parts = sides(open_data(Data(source="digits", held_out=0.0)), 5000, 600)
    assert not set(parts[0].tolist()) & set(parts[1].tolist())
    assert parts[2] == "two disjoint parts of the training images, 898 against 600"


@pytest.mark.parametrize(("n", "reference"), [(1000, 10_000), (400, 300)])
def test_both_distances_of_a_perfect_generator_are_their_floors(digits, n, reference):
    """Features are Gaussian noise that an image's bytes decide, so that noise is drawn from the data."""

    def noise(pixels):
        seeds = [int.from_bytes(blake2b(image.numpy().tobytes()).digest()[:8], "little") for image in pixels]
        values = [np.random.default_rng(seed).standard_normal(16) for seed in seeds]
        return torch.tensor(np.array(values), dtype=torch.float32), None

    extractor = Extractor("noise", "simulated", "as they are", noise, CPU)
    random = np.random.default_rng(5)
    real = real_features(extractor, digits, reference_items(digits, reference))
    none = torch.full((n,), -1)
    results = []
    for _ in range(8):
        images = random.integers(0, 256, (n, 28, 28, 1), dtype=np.uint8)
        results.append(scores(extractor, real, extract(extractor, [images]), none))
    lowest = floor(extractor, digits, n, reference, by_class=False)
    distance, kernel = ([result[name].value for result in results] for name in ("FD-noise", "KID-noise"))
    chance = np.std(distance) + 0.1 * np.mean(distance)  # of one reference, and of the floor
    assert abs(np.mean(distance) - lowest.scores["FD-noise"].value) < 2 * chance
    assert abs(np.mean(kernel) - lowest.scores["KID-noise"].value) < results[0]["KID-noise"].spread


def test_features_and_floors_are_computed_once(drawn_from, digits, monkeypatch):
    items = reference_items(digits, 1500)
    first = real_features(drawn_from, digits, items)
    expected = extract(drawn_from, [digits.images[items]])
    torch.testing.assert_close(first.values, expected.values)
    lowest = floor(drawn_from, digits, 100, 1500, by_class=False)

    def fail(*args):
        raise AssertionError("computed again")

    monkeypatch.setattr(real_module, "extract", fail)
    assert torch.equal(real_features(drawn_from, digits, items).values, first.values)
    assert torch.equal(real_features(drawn_from, digits, items[:1000]).values, first.values[:1000])
    monkeypatch.setattr(floor_module, "real_features", fail)
    assert floor(drawn_from, digits, 100, 1500, by_class=False) == lowest
    with pytest.raises(AssertionError, match="computed again"):
        floor(drawn_from, digits, 101, 1500, by_class=False)
    with pytest.raises(AssertionError, match="computed again"):
        real_features(Extractor("x", "another hash", "", drawn_from.network, CPU), digits, items)


def test_damaged_files_of_the_cache_are_computed_again(drawn_from, digits):
    items = reference_items(digits, 50)
    changed = Extractor("x", "damaged", "", drawn_from.network, CPU)
    first = real_features(changed, digits, items)
    folder = real_module.cache_dir("features", real_module.key(digits.fingerprint, "damaged", "")[:24])
    (path,) = folder.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:40])
    assert torch.equal(real_features(changed, digits, items).values, first.values)


def test_too_few_images_are_told(drawn_from, digits):
    with pytest.raises(UserError, match="needs 12 images or more on either side, not 11"):
        evaluation(digits.images[digits.train[:11]], torch.full((11,), -1), digits, drawn_from)


def test_images_are_not_kept(drawn_from, digits):
    """Samples pass through one part at a time; only their features stay."""
    parts: list[weakref.ref] = []
    alive = []

    def watched() -> Iterator[Drawn]:
        for _ in range(5):
            images = digits.images[digits.train[:20]]
            parts.append(weakref.ref(images))
            alive.append(sum(part() is not None for part in parts))
            yield Drawn(images, torch.full((20,), -1))

    measure(watched(), digits, drawn_from, 100, step=0, weights="", sampling={})
    assert len(alive) == 5
    assert max(alive) <= 2


def test_frechet_distance_of_enough_images_is_the_metric_itself(drawn_from, digits):
    images, against, _ = sides(digits, 300, 600)
    a, b = (extract(drawn_from, [digits.images[items]]).values for items in (against, images))
    lowest = floor(drawn_from, digits, 300, 600, by_class=False).scores["FD-program"].value
    assert lowest == pytest.approx(frechet(moments([a]), moments([b])), rel=1e-4)
