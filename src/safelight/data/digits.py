"""The 1,797 handwritten digits of scikit-learn (Alpaydin & Kaynak 1998, UCI), enlarged from 8x8 to 28x28.

digits.csv.gz is scikit-learn's file: 64 counts and the class a line. NOTICE names its licence.
"""

from __future__ import annotations

import gzip
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from safelight.data import columns as condition
from safelight.data.config import Data
from safelight.data.images import fit
from safelight.data.source import DrawnReader, Items, Pixels, Source, key

CLASSES = tuple("0123456789")
CONTRAST = 1.5  # about mid-grey: strokes as crisp as MNIST's, and Lanczos' faint rings cut off


def digits(config: Data) -> Source:
    """The embedded digits; needs no file and no network."""
    height, width = config.height_width or (28, 28)
    shape = (height, width, config.channels or 1)

    def items() -> Items:
        packed = (files("safelight.data") / "digits.csv.gz").read_bytes()
        table = np.loadtxt(gzip.decompress(packed).decode().splitlines(), delimiter=",")
        images, labels = table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)
        names = [f"{index:04d}" for index in range(len(images))]
        columns = {"label": condition.label(labels, CLASSES)} if config.labels else {}
        reader = DrawnReader(lambda index: Pixels(fit(Image.fromarray(enlarge(images[index])), shape)))
        return Items(names, shape, reader, columns)

    return Source("digits", key("digits", shape, config.labels), items)


def enlarge(image: NDArray[np.floating]) -> NDArray[np.uint8]:
    """(8, 8) counts of 0 to 16 as (28, 28) grey levels: three times larger, in a margin of two.

    The digits touch their edges, so a black cell is put around them first, for strokes to end softly.
    Pillow resizes 8-bit images in integers, which gives the same pixels on every machine.
    """
    cells = Image.fromarray(np.pad(np.rint(image * (255 / 16)).astype(np.uint8), 1))
    large = np.asarray(cells.resize((30, 30), Image.Resampling.LANCZOS), np.float64)[1:-1, 1:-1]
    return np.rint(np.clip((large - 127.5) * CONTRAST + 127.5, 0, 255)).astype(np.uint8)
