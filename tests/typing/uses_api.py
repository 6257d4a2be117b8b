"""A program of somebody who uses the public API: mypy checks it, nobody runs it."""

from pathlib import Path
from typing import assert_type

import numpy as np
from numpy.typing import NDArray

import safelight as sl

run = sl.train("digits", {"optim.lr": 1e-3}, steps=3)
assert_type(run, sl.Run)
assert_type(sl.open_run("digits-1"), sl.Run)
assert_type(sl.fork("digits-1", 500), sl.Run)
assert_type(sl.resume(Path("runs/digits-1")), sl.Run)
samples = run.sample(16, label=3, how={"sample.guidance": 3.0})
assert_type(samples.images, NDArray[np.uint8])
samples.save("threes.png")
assert_type(run.step, int)
try:
    sl.plan("digits", {"optim.lr": 1})
except sl.UserError as error:
    assert_type(str(error), str)
