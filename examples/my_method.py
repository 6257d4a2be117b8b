"""A family of generators in one file: rectified flow whose paths are asked to be straight.

A recipe names it by path, `method.name = "examples/my_method.py"`; run as a script it trains itself. Two
named, unweighted components: what flow matching asks for, and how much the predicted velocity turns along a
path (velocity consistency, Yang 2024). Their weights belong to the recipe: `loss.weights.straightness=0.1`.
"""

from typing import ClassVar

from safelight.config import Section
from safelight.types import Phase


class Config(Section):
    apart: float = 0.3  # in time, of the two points whose velocities are compared


class Sampling(Section):
    steps: int = 8


class StraightFlow:
    """x_t = (1 - t) x + t ε, trained towards v = ε - x (Liu 2022)."""

    Config = Config
    Sampling = Sampling
    roles = ("denoiser",)
    ema = ("denoiser",)
    frozen = ()
    components: ClassVar = {"velocity": 1.0, "straightness": 0.1}

    def __init__(self, config, networks):
        self.config, self.network = config, networks["denoiser"]
        self.phases = (Phase("flow", ("denoiser",), self.loss),)

    def networks(self, spec):
        self.shape = spec.shape
        return {"denoiser": self.network.build(spec)}

    def loss(self, nets, batch, moment):
        ε, t = moment.draw.normal("noise", *batch.x.shape[1:]), moment.draw.uniform("time")
        v = ε - batch.x

        def predicted(time):
            x_t = batch.x + time[:, None, None, None] * v
            return nets["denoiser"](x_t, time, batch.given, batch.present)

        here, there = predicted(t), predicted(t * (1 - self.config.apart)).detach()
        return {
            "velocity": (here - v).square().mean((1, 2, 3)),
            "straightness": (here - there).square().mean((1, 2, 3)),
        }, {}

    def latent(self, draw):
        return draw.normal("latent", *self.shape)

    def sample(self, nets, latent, given, present, draw, how):
        x = latent
        for step in range(how.steps, 0, -1):
            t = x.new_full((len(x),), step / how.steps)
            x = x - nets["denoiser"](x, t, given, present) / how.steps
        return x


if __name__ == "__main__":
    import sys

    import safelight as sl

    plain = {"method": {"name": __file__}, "sample": {"steps": 8}, "loss.weights": {"velocity": 1.0}}
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    run = sl.train("digits", {**plain, "network.width": 32}, steps=steps)
    print(run.sample(40).save("straight.png"))
