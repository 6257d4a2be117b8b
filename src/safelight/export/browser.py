"""A trained generator for a page that draws by itself: ONNX graphs, weights of moments, samplers as numbers.

The browser has no Python: `web/static/` runs the graphs (generator.js), draws the same keyed randomness
(random.js) and follows the program that is made here from the samplers themselves (sampler.js). Weights are
rounded to bfloat16, as those of every picture of a specimen are, so that draw 7 there is draw 7 of the run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from safelight import samplers
from safelight.config import UserError
from safelight.explore.specimens import PHASE, Specimen, start_of
from safelight.export.browser_graphs import deflated, graphs_of, network_of
from safelight.export.onnx import require_onnx
from safelight.loading.model import Model
from safelight.loading.recorded import pixel_spec_of
from safelight.loading.replay import Replay
from safelight.methods.diffusion import Diffusion, DiffusionSampling
from safelight.randomness import RowDraw, key
from safelight.render.wording import duration
from safelight.store import checkpoint_files, retention
from safelight.store.columns import Columns
from safelight.store.directory import RunDirectory
from safelight.store.tape import TapeReader, ordered
from safelight.types import Tell, Values

DRAWS = 64  # specimens whose conditions are in the page, where these are more than a class
PATIENCE = 300  # seconds of recomputation, as they were recorded, past which the nearest step on disk serves
EVALUATIONS = (2, 4, 6, 10, 20, 40)  # that a reader may choose from, besides those of the recipe


def moments_of(directory: RunDirectory, count: int, tell: Tell = lambda line: None) -> list[int]:
    """At most `count` steps through a training, denser where it begins, the newest weights last.

    Steps that are not on disk are taken where recomputing all of them would be quick, else those nearest.
    """
    first = retention.first_of(directory)
    held = sorted({first, *checkpoint_files.list_steps(directory.path), *TapeReader(directory.path).steps})
    last = held[-1]
    shares = [(at / (count - 1)) ** 2 for at in range(count)] if count > 1 else [1.0]
    steps = sorted({first + round((last - first) * share) for share in shares})
    columns = Columns(directory.path)
    columns.update()
    seconds = dict(zip(columns.steps.tolist(), np.nan_to_num(columns["seconds"]).tolist(), strict=True))
    starts = {step: max(kept for kept in held if kept <= step) for step in steps}
    missing = {between for step, start in starts.items() for between in range(start + 1, step + 1)}
    price = sum(seconds.get(step, 0.0) for step in missing)
    if price > PATIENCE:
        near = sorted({min(held, key=lambda kept: abs(kept - step)) for step in steps})
        tell(f"moments: {len(near)} that are on disk; all {len(steps)} would take {duration(price)}")
        return near
    if missing:
        tell(f"moments: {len(steps)}, for which {len(missing):,} steps are recomputed, {duration(price)}")
    return steps


def portable(directory: RunDirectory, steps: Sequence[int], tell: Tell = lambda line: None) -> dict[str, Any]:
    """Everything that draws the specimens of the last of `steps` with the weights of each, as plain values.

    Raises UserError for a run that draws no images, and for one whose networks cannot be written.
    """
    require_onnx()
    if pixel_spec_of(directory).alpha:
        raise UserError("data.channels=4: a page draws no transparent samples; safelight sample does")
    replay = Replay(directory, tell)
    weights, verdicts, before = [], [], None
    graphs: dict[str, Any] = {}
    for step in steps:
        model = replay.rounded(step)
        model.require_images()
        net = network_of(model)
        if not graphs:
            graphs = graphs_of(model, net)
        state = net.state_dict()
        now = ordered(np.concatenate([bits_of(state[name]) for name in graphs["network"]["weights"]]))
        weights.append(packed(now, before))
        verdicts.append(f"{model.source}: {model.verdict.verdict}")
        before = now
        tell(f"step {step:,}: {model.source}, {len(weights[-1]) / 1e6:.1f} MB")
    newest = steps[-1]
    latent = model.method.latent(RowDraw(0, 0, "shape", range(1)))
    noises = graphs["network"].pop("noises")
    made: dict[str, Any] = {
        "step": newest,
        "steps": list(steps),
        "verdicts": verdicts,
        "shape": list(model.data.pixels.shape),
        "latent": list(latent.shape[1:]),
        "conditions": model.conditions,
        "given": _given(model),
        "graphs": graphs,
        "weights": weights,
        "average": model.average,
    }
    method: Any = model.method
    if isinstance(method, Diffusion):
        assert isinstance(model.how, DiffusionSampling)
        if model.how.guide_by:
            raise UserError("sample.guide_by: a page cannot draw samples that another run guides")
        counts = sorted(
            {*EVALUATIONS, model.how.steps} if model.how.steps <= max(EVALUATIONS) else {model.how.steps}
        )
        made["programs"] = {
            str(count): program(method, model.how.model_copy(update={"steps": count})) for count in counts
        }
        made |= {"chosen": model.how.steps, "guidance": model.how.guidance}
        noises = {f"sampler {number}": latent.shape[1:] for number in range(max(counts))}
    seed = model.recipe.train.seed
    made["noises"] = {name: list(shape) for name, shape in noises.items()}
    made["keys"] = {name: f"{key(seed, newest, PHASE, name):032x}" for name in ("latent", "label", *noises)}
    return made


def program(method: Diffusion, how: DiffusionSampling) -> dict[str, Any]:
    """A sampler as numbers: what each evaluation is given, and what is made of all of them.

    Every sampler of `samplers` is linear in what it has: x_k it asked about, D_k it was answered, and noise.
    So it is run here once on unit vectors, and leaves its coefficients. In a list [[index, factor], ...] x_k
    has the index 3 k, D_k 3 k + 1, and the noise of interval i 3 i + 2; x_0 is the latent times `start`. Of
    an evaluation: x_t = alpha x, and D = clip(x_factor x + out_factor out) where the network was told t.
    """
    sigmas = method.process.sigmas(how.steps, how.t_max)
    size = 3 * (samplers.evaluations(how.sampler, how.steps) + 1)
    basis = torch.eye(size, dtype=torch.float64)
    calls: list[dict[str, Any]] = []

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        level, k = method.process.at(sigma, 1), len(calls)
        (alpha, σ), (a, s) = (float(level.alpha), float(level.sigma)), map(float, method.target(level))
        interval, noisiness = how.guidance_interval, level.t
        if how.guidance_interval_sigma:
            interval, noisiness = how.guidance_interval_sigma, sigma
        low, high = interval or (-math.inf, math.inf)
        calls.append({
            "x": sparse(x), "t": float(level.t), "alpha": alpha, "guided": low <= float(noisiness) <= high,
            "x_factor": s * alpha / (alpha * s - σ * a), "out_factor": -σ / (alpha * s - σ * a),
        })  # fmt: skip
        x.copy_(basis[3 * k])  # from here on it is a value of its own: what is made of it stays short
        return basis[3 * k + 1].clone()

    def noise(interval: int) -> Tensor:
        return basis[3 * interval + 2].clone()

    def sparse(x: Tensor) -> list[list[float]]:
        return [[int(index), float(x[index])] for index in torch.nonzero(x).flatten()]

    made = samplers.sample(how.sampler, denoise, basis[0].clone(), sigmas, noise, how.eta, how.variance)
    return {"start": method.process.start(sigmas[0]), "clip": how.clip, "calls": calls, "out": sparse(made)}


def _given(model: Model) -> dict[str, Any]:
    """The conditions of the first specimens, where these are those of real items."""
    if set(model.spec.conditions) <= {"label"}:
        return {}
    rows: list[Values] = [start_of(Specimen(model.step, number), model).given for number in range(DRAWS)]
    joined = {name: torch.cat([row[name] for row in rows]).cpu() for name in model.spec.conditions}
    return {name: {"shape": list(rows.shape[1:]), "data": deflated(rows.to(torch.float32).numpy().tobytes())}
            for name, rows in joined.items()}  # fmt: skip


def bits_of(values: Tensor) -> NDArray[np.uint16]:
    """The bits of values that are bfloat16 already, flat."""
    rounded = values.detach().flatten().to("cpu", torch.bfloat16).contiguous()
    return rounded.view(torch.int16).numpy().view(np.uint16)


def packed(now: NDArray[np.uint16], before: NDArray[np.uint16] | None) -> str:
    """Weights as `tape.ordered` integers: zigzag differences from those before, high bytes, then low ones."""
    difference = (now if before is None else now - before).view(np.int16)
    zigzag = ((difference << 1) ^ (difference >> 15)).view(np.uint16)
    return deflated((zigzag >> 8).astype(np.uint8).tobytes() + (zigzag & 255).astype(np.uint8).tobytes())
