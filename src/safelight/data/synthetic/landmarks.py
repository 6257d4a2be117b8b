"""What a town is known by: one tower, pyramid, dome or bridge of a skyline."""

from __future__ import annotations

from safelight.data.synthetic.canvas import Canvas, Colour, Dice, shade


def spire(canvas: Canvas, dice: Dice, x: float, shore: float, wall: Colour, light: Colour) -> None:
    """A tower in three steps that ends in a needle."""
    height, width = dice.uniform(0.5, 0.6), dice.uniform(0.05, 0.065)
    for share, broad in ((0.62, 1.0), (0.78, 0.7), (0.88, 0.4)):
        canvas.box(x - width * broad, shore - height * share, x, shore, wall)
        canvas.box(x, shore - height * share, x + width * broad, shore, shade(wall, 0.8))
    canvas.polygon(
        [(x - width * 0.25, shore - height * 0.88), (x + width * 0.25, shore - height * 0.88),
         (x, shore - height * 1.1)], shade(wall, 0.9)
    )  # fmt: skip
    canvas.box(x - width * 0.4, shore - height * 0.88, x + width * 0.4, shore - height * 0.85, light)


def needle(canvas: Canvas, dice: Dice, x: float, shore: float, wall: Colour, light: Colour) -> None:
    """A television tower: a thin shaft with a bulb."""
    height = dice.uniform(0.52, 0.62)
    canvas.polygon([(x - 0.028, shore), (x + 0.028, shore), (x + 0.006, shore - height),
                    (x - 0.006, shore - height)], wall)  # fmt: skip
    canvas.disc(x, shore - height * 0.72, 0.04, shade(wall, 1.15), flat=0.8)
    canvas.box(x - 0.038, shore - height * 0.73, x + 0.038, shore - height * 0.70, light)
    canvas.box(x - 0.004, shore - height * 1.12, x + 0.004, shore - height, wall)


def pyramid(canvas: Canvas, dice: Dice, x: float, shore: float, wall: Colour, light: Colour) -> None:
    """A slender pyramid, one side in the shade."""
    height, width = dice.uniform(0.48, 0.58), dice.uniform(0.075, 0.1)
    canvas.polygon([(x - width, shore), (x + width * 0.3, shore), (x, shore - height)], shade(wall, 1.15))
    canvas.polygon([(x + width * 0.3, shore), (x + width, shore), (x, shore - height)], shade(wall, 0.8))
    canvas.disc(x, shore - height * 0.99, 0.008, light)


def dome(canvas: Canvas, dice: Dice, x: float, shore: float, wall: Colour, light: Colour) -> None:
    """A hall with a dome and a lantern."""
    width, height = dice.uniform(0.11, 0.14), dice.uniform(0.26, 0.34)
    canvas.disc(x, shore - height, width * 0.8, shade(wall, 1.2), flat=1.1)
    canvas.box(x - width, shore - height, x + width, shore, wall)
    canvas.box(x - width, shore - height, x + width, shore - height + 0.02, light)
    canvas.box(x - 0.01, shore - height - width * 1.2, x + 0.01, shore - height - width * 0.8, light)


def twins(canvas: Canvas, dice: Dice, x: float, shore: float, wall: Colour, light: Colour) -> None:
    """Two equal towers with a bridge between them."""
    height, width, gap = dice.uniform(0.46, 0.56), dice.uniform(0.05, 0.06), dice.uniform(0.03, 0.05)
    canvas.box(x - gap, shore - height * 0.6, x + gap, shore - height * 0.55, light)
    for left in (x - gap - width, x + gap):
        canvas.box(left, shore - height, left + width * 0.6, shore, wall)
        canvas.box(left + width * 0.6, shore - height, left + width, shore, shade(wall, 0.8))
        canvas.polygon([(left, shore - height), (left + width, shore - height),
                        (left + width / 2, shore - height - width * 1.2)], shade(wall, 0.9))  # fmt: skip


def wheel(canvas: Canvas, dice: Dice, x: float, shore: float, wall: Colour, light: Colour) -> None:
    """A big wheel: a ring on two legs."""
    radius = dice.uniform(0.16, 0.2)
    y = shore - radius - 0.12
    for leg in (-0.1, 0.1):
        canvas.line([(x, y), (x + leg, shore)], 0.012, wall)
    corners = ((1, 0), (0.87, 0.5), (0.5, 0.87), (0, 1), (-0.5, 0.87), (-0.87, 0.5))  # by hand: no sine
    for across, down in corners:
        ends = [(x - across * radius, y - down * radius), (x + across * radius, y + down * radius)]
        canvas.line(ends, 0.006, wall)
        for end in ends:
            canvas.disc(*end, 0.013, light)
    ring = [*corners, *((-a, -b) for a, b in corners), corners[0]]
    canvas.line([(x + a * radius, y + b * radius) for a, b in ring], 0.012, wall)


ALL = (spire, needle, pyramid, dome, twins, wheel)
