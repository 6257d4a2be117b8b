"""Findings of the audit of a resumed session, see training/audit.py: each ends the run."""

from __future__ import annotations

from safelight.checks.bench.finding import Code

CODES = (
    Code(
        "resume-frozen",
        "error",
        "after loading, another number of parameters can be trained than the checkpoint records",
        "a network that should train stays frozen, or the other way round",
        "build networks in the same way in every session",
    ),
    Code(
        "resume-optimiser",
        "error",
        "after loading, moments or step counts of the optimiser differ from the checkpoint's files, or it "
        "holds other tensors than the network",
        "training starts over from a cold optimiser",
        "copy a checkpoint into the existing state (State.load); build no second optimiser",
    ),
    Code(
        "resume-settings",
        "error",
        "after the first step of a resumed session, a parameter group has another learning rate, betas, eps"
        " or weight decay than is in force",
        "an edit of the settings never arrives in the optimiser",
        "let only the engine set parameter groups; load_state_dict of an optimiser brings back old settings",
    ),
    Code(
        "resume-weights",
        "error",
        "after loading, weights, averages or the method's memory differ from the checkpoint's files",
        "the run goes on from other weights",
        "change no weight between loading and training",
    ),
)
