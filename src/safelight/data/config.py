"""The [data] section of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from safelight.config import Section


class Data(Section):
    """What is trained on. A path alone means a folder: `data.path=photos/` is all a recipe has to be told."""

    source: Literal["digits", "mnist", "fashion-mnist", "folder"] = Field(
        "digits",
        description="digits: scikit-learn's 1,797, embedded, 28x28; mnist, fashion-mnist: 70,000 of 28x28, "
        "downloaded once; folder: your own images under data.path, a class for each subfolder",
    )
    path: str | None = Field(
        None,
        description="folder of images; for mnist and fashion-mnist, a folder that holds the four idx files",
    )
    size: int | tuple[int, int] | None = Field(
        None,
        description="pixels: one number for squares, or [height, width]; images are cropped about their "
        "centre and resized. Without it the images' own size, which must then be the same for all",
    )
    channels: Literal[1, 3] | None = Field(
        None, description="1 for grey, 3 for colour. Without it 3 as soon as one image has colour"
    )
    labels: bool = Field(True, description="take classes as a condition; false trains as if there were none")
    held_out: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="share of the images kept from training, chosen by their content; "
        "data with an official test split holds out that split instead",
    )
    flip: bool = Field(False, description="mirror every second image, at random, left to right")
    skip_bad: bool = Field(
        False, description="leave out files that cannot be decoded; otherwise they are named and refused"
    )

    @property
    def height_width(self) -> tuple[int, int] | None:
        """The size asked for in pixels, (H, W)."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    @field_validator("size", mode="before")
    @classmethod
    def _pixels(cls, size: Any) -> Any:
        values = size if isinstance(size, list | tuple) else [size]
        whole = all(isinstance(value, int) and not isinstance(value, bool) and value > 0 for value in values)
        if size is None or (whole and len(values) in (1, 2)):
            return values[0] if len(values) == 1 else size
        raise ValueError(f"{size!r} should be pixels, such as 64, or [height, width], such as [64, 48]")

    @model_validator(mode="before")
    @classmethod
    def _path_means_folder(cls, section: Any) -> Any:
        """The digits have no files, so a path beside them can only mean a folder of images."""
        if (
            isinstance(section, Mapping)
            and section.get("path")
            and section.get("source", "digits") == "digits"
        ):
            return {**section, "source": "folder"}
        return section

    @model_validator(mode="after")
    def _folder_has_path(self) -> Data:
        if self.source == "folder" and not self.path:
            raise ValueError('source = "folder" needs data.path, the folder of images')
        return self
