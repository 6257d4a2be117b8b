"""Processor seconds from the command to the first sheet that is better than noise, on four folders.

    python benchmarks/first_picture.py OPENMOJI FASHION WALLPAPERS [--minutes 2.5] [--work DIR] [case ...]

Better than noise: the kernel distance of 100 samples to the folder's pictures, in EfficientNet's
features, is under BETTER of that of Gaussian noise. Sheets are judged by the checkpoints of their steps.
`--work` with trainings of folders.py would train them again: sheets are timed while they are written.
"""

from __future__ import annotations

import os

import torch
from folders import Judge, arguments, folders, train

import safelight as sl

BETTER = 0.5


def main() -> None:
    given = arguments(__doc__)
    torch.set_num_threads(1)
    for case, folder in folders(given.openmoji, given.fashion, given.wallpapers, given.work).items():
        if given.cases and case not in given.cases:
            continue
        judge, name = Judge(folder, given.work), f"{case}-first"
        trained = train(name, [str(folder), "--minutes", str(given.minutes)], given.work)
        os.environ["SAFELIGHT_CACHE"] = str(given.work / "cache" / name)
        first = None
        for step, seconds in sorted(trained.sheets.items()):
            samples = sl.open_run(name, runs=given.work / "runs", step=step).sample(100).images
            share = judge.kernel(judge.features(samples)) / judge.noise
            print(f"| {case} | step {step:,} | {seconds:.0f} s | {share:.2f} of noise |", flush=True)
            if share < BETTER:
                first = seconds
                break
        print(
            f"| {case} | first | {f'{first:.0f} s' if first else 'none'} of {trained.seconds:.0f} s |  |",
            flush=True,
        )


if __name__ == "__main__":
    main()
