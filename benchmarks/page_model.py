"""A saved page that draws: its size, seconds a sample in Chromium, greatest grey difference from torch.

    python benchmarks/page_model.py runs/digits-1 [RUN ...] [--moments 20]

Of 64 specimens of the newest weights, as the page draws them (one thread of WebAssembly, one image at a time,
the evaluations of the recipe) and as torch does in float32. Seconds of the wall clock, the median of sixteen.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from base64 import b64encode
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
from playwright.sync_api import sync_playwright

from safelight.explore.specimens import Specimen, picture_of, start_of
from safelight.export.browser import DRAWS, moments_of, portable
from safelight.loading.replay import Replay
from safelight.report.bundle import WEB, bundle
from safelight.report.run_report import save_report
from safelight.store.directory import RunDirectory

ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage"]
DRAW = """async ([model, engine, count]) => {
  let begun = performance.now();
  const generator = await new modules["generator.js"].Generator(JSON.parse(model), engine).begin();
  const request = { moment: generator.model.steps.length - 1, guidance: generator.model.guidance };
  await generator.draw({ ...request, numbers: [0] });
  const start = (performance.now() - begun) / 1000, images = [], seconds = [];
  for (let number = 0; number < count; number += 1) {
    begun = performance.now();
    images.push([...await generator.draw({ ...request, numbers: [number] })]);
    seconds.push((performance.now() - begun) / 1000);
  }
  return { start, images, seconds };
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--moments", type=int, default=20)
    options = parser.parse_args()
    engine = b64encode((WEB / "vendor" / "ort.wasm.deflate").read_bytes()).decode("ascii")
    print("| run | moments | plain page | with model | weights a moment | first sample | a sample | off by |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for path in options.runs:
        directory = RunDirectory(path)
        model = portable(directory, moments_of(directory, options.moments))
        with tempfile.TemporaryDirectory() as place, sync_playwright() as play:
            sizes = [save_report(directory, Path(place) / "page.html", each).stat().st_size
                     for each in (None, model)]  # fmt: skip
            executable = shutil.which("chromium") or shutil.which("chromium-browser")
            page = play.chromium.launch(executable_path=executable, args=ARGUMENTS).new_page()
            page.goto("about:blank")  # which is of no origin, as the worker of a saved page
            page.add_script_tag(content=bundle("generator.js"))
            drawn = page.evaluate(DRAW, [json.dumps(model), engine, DRAWS])
        newest = replace(Replay(directory).rounded(model["step"]), autocast=nullcontext)
        starts = [start_of(Specimen(newest.step, number), newest) for number in range(DRAWS)]
        expected = np.stack([picture_of(start, newest).transpose(2, 0, 1).ravel() for start in starts])
        off = np.abs(np.array(drawn["images"], int) - expected.astype(int)).max()
        weights = sum(map(len, model["weights"])) / len(model["weights"])
        plain, whole = (f"{size / 1e6:.1f} MB" for size in sizes)
        seconds = f"{drawn['start']:.1f} s | {median(drawn['seconds'][:16]):.3f} s"
        moments = len(model["steps"])
        print(f"| {path.name} | {moments} | {plain} | {whole} | {weights / 1e6:.2f} MB | {seconds} | {off} |")
    print(f"\nload of the machine: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
