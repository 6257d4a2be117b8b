"""Whether batch size, epochs and the averages of the weights fit the data and the run."""

from __future__ import annotations

from collections.abc import Iterator

from safelight.checks.bench.finding import Code, Finding
from safelight.checks.bench.subject import Subject

SECONDS = 1.0
FAST = True
LEAST_EPOCHS = 1.0
MANY_EPOCHS = 2000
LONG = 0.5  # of the run: a longer average keeps too many early weights

FEW_EPOCHS = Code(
    "data-not-seen",
    "warning",
    "steps times batch size is less than the number of training images",
    "some images are never shown",
    "raise train.steps or train.batch_size, or set train.epochs",
)
MEMORISES = Code(
    "many-epochs",
    "note",
    "steps times batch size is more than 2,000 epochs",
    "images seen so often are memorised",
    "augment (data.flip, method.augment, dropout), or stop earlier",
)
EMA_LONG = Code(
    "average-too-long",
    "warning",
    "the average reaches back 1 / (1 - train.ema) steps, which is more than half of the run",
    "samples use weights from too early in the run",
    "lower train.ema: at most 1 - 2 / train.steps, better 1 - 10 / train.steps",
)
BATCH = Code(
    "batch-larger-than-data",
    "warning",
    "the batch size exceeds the number of training images",
    "a batch holds images more than once, and an epoch is less than a step",
    "lower train.batch_size",
)


def check(subject: Subject) -> Iterator[Finding]:
    """Arithmetic on the plan."""
    plan, images = subject.plan, subject.pack.trained
    batch_size = plan.train.batch_size
    epochs = plan.steps * batch_size / images
    if batch_size > images:
        yield BATCH.finding(f"batches of {batch_size} from {images:,} images", f"at most {images:,}")
    shown = f"{plan.steps:,} steps of {batch_size} are"
    if epochs < LEAST_EPOCHS:
        yield FEW_EPOCHS.finding(f"{shown} {epochs:.2f} epochs of {images:,} images", "at least 1")
    if epochs > MANY_EPOCHS:
        yield MEMORISES.finding(
            f"{shown} {epochs:,.0f} epochs of {images:,} images", f"at most {MANY_EPOCHS:,}"
        )
    length = 1 / (1 - plan.train.ema)
    if plan.train.ema and length > LONG * plan.steps and subject.method.ema:
        yield EMA_LONG.finding(
            f"train.ema = {plan.train.ema:g} averages over {length:,.0f} steps of {plan.steps:,}",
            f"at most {LONG * plan.steps:,.0f}, half of the run",
        )
