"""Each check on something small that has its fault, and on the same without."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from safelight.checks import augmentation, images, noise, times
from safelight.checks.bench.oracle import between, image_networks, targets, world
from safelight.checks.bench.probes import Clock, OutOfTime, reach
from safelight.checks.bench.subject import FEW, STEPS
from safelight.data.space import Codec, Space
from safelight.data.stream import Stream
from safelight.discovery import network_configs
from safelight.engine.plan import Ramp
from safelight.types import Method
from subjects import Builds, Small, codes, digits, found, plain, plain_class, subject


def test_the_faultless_method_has_no_fault():
    assert codes(subject()) == set()


def test_targets_and_noise_levels_are_those_of_the_equations():
    """Of x_t = (1 - t) x + t ε towards ε - x: α = 1 - t, σ = t, y = x_t / t - x / t."""
    own = subject()
    (network,) = image_networks(own)
    batch = own.batch(8)
    found = targets(own, network, batch)
    time = found.call.time
    ε = (found.call.image - (1 - time)[:, None, None, None] * batch.x) / time[:, None, None, None]
    torch.testing.assert_close(found.targets, ε - batch.x, rtol=1e-2, atol=1e-2)
    known = world(own)
    middle = (known.time > 0.1) & (known.time < 0.9)
    torch.testing.assert_close(known.alpha[middle], 1 - known.time[middle], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(known.sigma[middle], known.time[middle], rtol=0.12, atol=0)
    expected = torch.stack([1 / known.time, -1 / known.time, torch.zeros_like(known.time)], 1)
    torch.testing.assert_close(known.answers[middle], expected[middle], rtol=1e-3, atol=1e-3)


def test_a_table_is_read_between_its_rows():
    time, values = torch.tensor([0.0, 1.0, 3.0]).double(), torch.tensor([[0.0], [10.0], [30.0]]).double()
    at = torch.tensor([-1.0, 0.5, 2.0, 9.0]).double()
    assert between(at, time, values)[:, 0].tolist() == [0, 5, 20, 30]


@pytest.mark.parametrize(
    ("end", "ends"),
    [(nn.ReLU(), (0, 3)), (nn.Sigmoid(), (0, 1)), (nn.Tanh(), (-1, 1)), (nn.Identity(), (-3, 3))],
)
def test_the_ends_of_an_activation_are_found(end, ends):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 4), end)
    x = torch.randn(2, 4)
    least, most = reach(network, lambda net: net(x), -3.0, 3.0, Clock())
    for end, true in ((least, ends[0]), (most, ends[1])):
        assert end == pytest.approx(true, abs=0.1) or (abs(true) == 3 and abs(end) > 2.8)


# --- networks and methods -----------------------------------------------------------------------


def variant(**methods):
    """The plain method with some of its functions replaced."""
    return type("Variant", (plain_class(),), methods)


class Unused(Small):
    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(3, 3)


class Frozen(Small):
    def __init__(self) -> None:
        super().__init__()
        self.requires_grad_(False)


class Huge(Small):
    def forward(self, *arguments):
        return super().forward(*arguments) + 1000


class Blind(Small):
    def forward(self, x, t, given, present):
        return self.image(x) + self.time(t[:, None])[:, :, None, None]


class Raises(Small):
    def forward(self, *arguments):
        raise RuntimeError("sizes of tensors must match")


class Explodes(Small):
    """A layer inside answers with numbers that float16 cannot hold; what comes out is small again."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Identity()

    def forward(self, *arguments):
        out = super().forward(*arguments)
        return out + 1e-9 * self.inner(out + 1e5)


class Infinite(Small):
    def forward(self, *arguments):
        return super().forward(*arguments) / 0


@pytest.mark.parametrize(
    ("network", "names", "expected"),
    [
        (Unused, ("parameters",), {"parameter-unmoved"}),
        (Huge, ("output",), {"initial-loss"}),
        (Raises, ("runs",), {"step-fails"}),
        (Infinite, ("runs",), {"not-finite"}),
        (Blind, ("conditions",), {"condition-unused"}),
        (Frozen, ("parameters",), {"nothing-to-train"}),
        (Explodes, ("numbers",), {"activation-overflow"}),
    ],
)
def test_a_fault_of_a_network(network, names, expected):
    assert codes(subject(plain(network)), *names) >= expected


class Absent(Small):
    """Has a matrix of its own for an absent label; `used` says whether it looks there."""

    used = True

    def __init__(self) -> None:
        super().__init__()
        self.absent = nn.Linear(1, 1)

    def forward(self, x, t, given, present):
        none = self.absent(t[:, None]) if self.used else 0
        known = self.label(given["label"]) + self.time(t[:, None])
        return self.image(x) + torch.where(present[:, None], known, none)[:, :, None, None]


class Unlooked(Absent):
    used = False


def annotated(network) -> Method:
    """The plain method with all conditions as they are: none is dropped."""
    kind = plain_class()
    return kind(kind.Config(dropped=0.0), {"denoiser": Builds(network)})


def test_what_stands_for_absent_conditions_need_not_move_where_all_are_there():
    assert codes(subject(annotated(Absent)), "parameters") == set()
    assert codes(subject(annotated(Unlooked)), "parameters") == {"parameter-unmoved"}


def test_a_network_of_learning_rate_0_is_meant_to_stay():
    assert codes(subject(optim={"lr": 0.0}), "parameters") == set()


class Ignoring(Blind):
    ignored = ("label",)


def test_a_condition_that_the_recipe_has_ignored_may_be_without_effect():
    assert codes(subject(plain(Ignoring)), "conditions") == set()


@pytest.mark.parametrize(
    ("network", "changes", "ignored"),
    [
        ("digits_unet", {}, ("label",)),
        ("digits_unet", {"classes": True}, ()),
        ("unet", {"ignore": ["label"]}, ("label",)),
        ("residual_decoder", {"conditional": False}, ("label", "attributes", "text")),
        ("residual_encoder", {"conditional": True}, ()),
    ],
)
def test_networks_say_which_conditions_they_ignore(network, changes, ignored):
    config = network_configs()[network](**changes)
    assert tuple(config.build(digits().spec).ignored) == ignored


def test_conditions_that_no_image_has_may_be_without_effect():
    stream = digits()
    bare = with_pack(stream, covered={"label": np.zeros(len(stream.pack.images), bool)})
    assert codes(subject(stream=bare), "conditions", "parameters") == set()


class Together(Small):
    """Takes what is common to the batch away."""

    def forward(self, *arguments):
        out = super().forward(*arguments)
        return out - out.mean(0, keepdim=True)


def test_a_network_that_looks_at_the_whole_batch_is_noted():
    def mixing(network):
        return [(one.code, one.severity) for one in found(subject(plain(network)), "independence")]

    assert mixing(Together) == [("network-mixes", "note")]
    assert mixing(Small) == []


def lost(self, nets, latent, given, present, draw, how):
    given = {"label": torch.zeros_like(given["label"])}
    return plain_class().sample(self, nets, latent, given, present, draw, how)


def company(self, nets, latent, given, present, draw, how):
    x = plain_class().sample(self, nets, latent, given, present, draw, how)
    return x - x.mean(0, keepdim=True)


def unrepeatable(self, nets, batch, moment):
    losses, seen = plain_class().loss(self, nets, batch, moment)
    return {"velocity": losses["velocity"] * (1 + np.random.random())}, seen


def thousand(self, nets, latent, given, present, draw, how):
    x = latent
    for step in range(how.steps, 0, -1):
        t = x.new_full((len(x),), 1000 * step / how.steps)
        x = x - nets["denoiser"](x, t, given, present) / how.steps
    return x


class Guided(plain_class()):
    """Two networks, of which one is frozen and looked at in the loss."""

    frozen = ("teacher",)
    drift = 0.0  # of the teacher's weights, at every step

    def networks(self, spec):
        return {**super().networks(spec), "teacher": nn.Conv2d(1, 1, 1)}

    def loss(self, nets, batch, moment):
        with torch.no_grad():
            nets["teacher"].weight.add_(self.drift)
        losses, seen = super().loss(nets, batch, moment)
        return {"velocity": losses["velocity"] + 0 * nets["teacher"](batch.x).mean((1, 2, 3))}, seen


def test_what_is_frozen_stays():
    assert codes(subject(plain(kind=Guided)), "parameters") == set()
    drifting = subject(plain(kind=type("Drifting", (Guided,), {"drift": 0.01})))
    (one,) = found(drifting, "parameters")
    assert (one.code, one.severity) == ("frozen-moves", "error")
    assert one.measured.startswith("teacher: weight ")


def cancelled(self, nets, batch, moment):
    """A small difference of large numbers, of which bfloat16 keeps every fourth."""
    losses, seen = plain_class().loss(self, nets, batch, moment)
    large = 1000 + losses["velocity"][:, None]
    return {"velocity": nn.functional.linear(large, large.new_ones(1, 1))[:, 0] - 1000}, seen


def test_a_loss_that_bfloat16_loses():
    def rough(kind, precision):
        own = subject(plain(kind=kind), precision=precision)
        own.autocast = lambda: torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
        return codes(own, "numbers")

    wrong = variant(loss=cancelled)
    assert rough(wrong, "bf16") == {"bf16-differs"}
    assert rough(wrong, "fp32") == set()
    assert rough(plain_class(), "bf16") == set()


@pytest.mark.parametrize(
    ("replaced", "names", "expected"),
    [
        ({"sample": lost}, ("conditions",), "condition-lost-in-sampling"),
        ({"sample": company}, ("modes",), "sample-depends-on-company"),
        ({"loss": unrepeatable}, ("repeat",), "not-deterministic"),
        ({"sample": thousand}, ("sampling",), "sampling-times"),
    ],
)
def test_a_fault_of_a_method(replaced, names, expected):
    assert expected in codes(subject(plain(kind=variant(**replaced))), *names)


# --- plans ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"steps": 20, "ema": 0.0}, "data-not-seen"),
        ({"batch_size": 5000, "steps": 3, "ema": 0.0}, "batch-larger-than-data"),
        ({"ema": 0.999, "steps": 1000}, "average-too-long"),
        ({"optim": {"warmup": 5000}}, "schedule-unfinished"),
        ({"optim": {"schedule": "cosine", "hold": 5000}}, "decay-never-begins"),
        ({"weights": {"velocity": Ramp(end=2.0, over=5000)}}, "ramp-unfinished"),
    ],
)
def test_a_plan_that_does_not_fit(settings, expected):
    own = subject(**settings)
    assert codes(own, "budget", "schedule") == {expected}


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "one-cycle"])
def test_a_schedule_as_long_as_the_run_is_complete(schedule):
    assert codes(subject(optim={"schedule": schedule, "warmup": 50}), "schedule") == set()


# --- data -----------------------------------------------------------------------------------------


def with_pack(stream: Stream, **fields) -> Stream:
    return Stream(replace(stream.pack, **fields), 0, 16)


def test_images_that_say_nothing():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 3), np.uint8)
    assert list(images._range(pixels)) == []
    flat = pixels.copy()
    flat[..., 1] = 7
    assert [one.code for one in images._range(flat)] == ["channel-constant"]
    assert [one.code for one in images._range(pixels // 16)] == ["image-range"]
    assert [one.severity for one in images._range(pixels[..., :1].repeat(3, -1))] == ["note"]


def test_copies_and_held_out_images_that_are_trained_on(tmp_path):
    pack = digits().pack
    digests = np.stack([np.arange(len(pack), dtype=np.uint64)] * 2, 1)
    digests[pack.train[1:100]] = digests[pack.train[0]]
    digests[pack.held_out[:50]] = digests[pack.train[0]]
    np.save(tmp_path / "digests.npy", digests)
    found = {one.code: one for one in images._copies(replace(pack, folder=tmp_path))}
    assert found["images-copied"].measured.startswith("99 of ")
    assert found["held-out-leaked"].measured.startswith("50 of ")
    assert {one.severity for one in found.values()} == {"warning"}


def test_classes_that_are_hardly_drawn_and_conditions_that_are_rare():
    stream = digits()
    labels = np.where(np.asarray(stream.pack.given["label"]) == 9, 0, stream.pack.given["label"])
    assert codes(subject(stream=with_pack(stream, given={"label": labels})), "given") == {"class-balance"}
    covered = {"label": np.arange(len(stream.pack)) % 5 == 0}
    assert "condition-coverage" in codes(subject(stream=with_pack(stream, covered=covered)), "given")


def test_a_space_that_is_not_undone_or_of_another_scale():
    def codec(encode, decode):
        ones = torch.ones_like
        return Codec("test", "", 1, 1, lambda x: (encode(x), ones(x)), decode)

    def found(space):
        stream = digits()
        own = subject(stream=Stream(stream.pack, 0, 16, space=space))
        own.spec = replace(own.spec, shape=(4, 14, 14))  # so that it is not taken for pixels
        return codes(own, "latents")

    sound = Space(codec(lambda x: x * 1.5, lambda z: z / 1.5), (-1.0,), (1.0,))
    assert found(sound) == set()
    fed_otherwise = Space(codec(lambda x: (x + 1) / 2, lambda z: z), (0.0,), (2.0,))
    assert "round-trip" in found(fed_otherwise)
    unscaled = Space(codec(lambda x: x * 20, lambda z: z / 20), (0.0,), (1.0,))
    assert found(unscaled) == {"latent-scale"}


def test_the_turn_that_explains_an_image_is_found():
    before = torch.arange(9.0).view(1, 3, 3)
    assert augmentation._moves_between(before, before.flip(-1)) == {"mirrored, turned by 0 degrees"}
    assert augmentation._moves_between(before, torch.rot90(before, 1, (-2, -1))) == {
        "as it was, turned by 90 degrees"
    }
    assert augmentation._moves_between(before, before + 1) == set()


# --- budgets --------------------------------------------------------------------------------------


def test_what_is_left_out_for_time_is_told():
    clock = Clock()
    clock.begin(1.0)
    with pytest.raises(OutOfTime, match="further rows: would take 50 s, 1 s are left"):
        clock.afford(50, "further rows")


def test_fewer_images_are_looked_at_where_steps_take_too_long(monkeypatch):
    monkeypatch.setattr("safelight.checks.bench.subject.PATIENCE", 600.0)
    whole = subject()
    assert (whole.rows, len(whole.batch(whole.rows).x), whole.trial.plan.train.batch_size) == (16, 16, 16)
    assert len(whole.trial.records) == STEPS
    before, again = whole.trial.before, subject().trial.before  # judging the time leaves the networks alone
    assert all(torch.equal(before[name], again[name]) for name in before)
    monkeypatch.setattr("safelight.checks.bench.subject.PATIENCE", 1e-9)
    hurried = subject()
    assert (hurried.rows, hurried.trial.plan.train.batch_size) == (FEW, FEW)
    assert len(hurried.trial.records) >= 1
    assert subject(batch_size=2).rows == 2


def test_few_noise_levels_are_not_said_to_end_too_early_but_those_that_do_are():
    """341 levels, as of 64x64x3 images: α / σ = (1 - t) / t of a logit-normal t is e^-z, which goes to 0."""
    dice = torch.Generator().manual_seed(0)
    told = short = missed = 0
    for _ in range(400):
        tail = (-torch.randn(341, generator=dice, dtype=torch.float64)).exp()
        told += noise.end(tail) > noise.MOST
        short += float(tail.min()) > noise.MOST
        t = 0.8 * torch.rand(341, generator=dice, dtype=torch.float64)  # ends at α / σ = 1 / 4
        missed += not noise.end((1 - t) / t) > noise.MOST
    assert short > 200  # which is most of them: the smallest draw says nothing by itself
    assert told <= 2 * noise.DOUBT * 400
    assert missed <= 2 * noise.DOUBT * 400
    few = torch.linspace(0.2, 3.0, 50, dtype=torch.float64).repeat(7)  # a schedule of 50 steps
    assert noise.end(few * (1 + 0.003 * torch.randn(350, generator=dice))) > noise.MOST


def test_a_time_of_the_sampler_that_training_practically_never_draws_is_told():
    """Logit-normal t: 1 in 20,000 above .98, the sampler's first; a tenth of even ones is enough."""
    z = torch.randn(8192, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    normal, even = z.sigmoid().sort().values, (torch.arange(8192).double() + 0.5) / 8192
    asked = 0.999 * torch.arange(10, 0, -1).double() / 10
    (finding,) = times.gap(asked, normal)
    assert (
        finding.measured == "samples use t = 0.999; of 8,192 times of training 0 lie between 0.9794 and 0.999"
    )
    assert finding.expected == "at least 8, a twentieth of an even share"
    assert not [*times.gap(asked, even), *times.gap(0.95 * asked, normal)]
    assert not [*times.gap(asked, torch.cat([even[::10], normal[::10].repeat(9)]).sort().values)]
    backwards = 1000 * (1 - asked)  # whatever the convention
    assert [*times.gap(backwards, 1000 * (1 - normal.flip(0)))]
    assert not [*times.gap(backwards, 1000 * (1 - even.flip(0)))]
