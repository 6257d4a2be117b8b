"""Pictures that a browser sends, base64 in JSON: what counts is their content, and no name comes along."""

from __future__ import annotations

import binascii
import io
import warnings
from base64 import b64decode

from PIL import Image

from safelight.config import UserError

MOST = 5 << 20  # bytes of a picture; in base64 it is below what a request may have
MOST_PIXELS = 50_000_000
FORMATS = ("PNG", "JPEG", "WEBP")


def picture(value: object) -> bytes:
    """The bytes of a data URL that holds a picture, of which only the header is read. Raises UserError."""
    head, _, text = value.partition(",") if isinstance(value, str) else ("", "", "")
    if not (head.startswith("data:") and head.endswith(";base64")):
        raise UserError("picture: expected a PNG, JPEG or WebP file")
    if len(text) > MOST * 4 // 3 + 4:
        raise UserError(f"picture: is larger than {MOST >> 20} MB; make it smaller")
    try:
        data = b64decode(text, validate=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its size, which is looked at below
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                pixels = image.width * image.height
    except Image.DecompressionBombError:
        pixels = MOST_PIXELS + 1
    except (binascii.Error, OSError, ValueError, SyntaxError) as error:
        raise UserError("picture: is no PNG, JPEG or WebP file") from error
    if pixels > MOST_PIXELS:
        raise UserError(f"picture: has more than {MOST_PIXELS // 10**6} million pixels; make it smaller")
    return data
