"""The [data] section of a recipe."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from safelight.config import Reference, Section

SourceName = Literal[
    "digits",
    "faces",
    "shapes",
    "skylines",
    "tissue",
    "mnist",
    "fashion-mnist",
    "folder",
    "idx",
    "arrays",
    "hub",
]
EMBEDDED = (
    "digits",
    "faces",
    "shapes",
    "skylines",
    "tissue",
)  # come with the package: no files, but for faces no columns
LARGEST = 2**15  # pixels a side
Measured = Literal["measured"] | float | tuple[float, ...]


class LatentsConfig(Section):
    """[data.latents]: images are encoded once, and methods see the latents. Samples are decoded again."""

    autoencoder: Reference = Field(
        description='recipe:NAME is trained first, run:NAME is a finished run of the family "vae", anything '
        "else the path or Hub id of a diffusers AutoencoderKL"
    )
    shift: Measured = Field(
        "measured",
        description="x = (latent - shift) * scale; one number, or one a channel; measured: the mean",
    )
    scale: Measured = Field(
        "measured", description="measured: one over the standard deviation; 0.18215 and 1/50 are usual, too"
    )


class Data(Section):
    """What is trained on. A path alone says what it is: `data.path=photos/` is all that is needed."""

    source: SourceName = Field(
        "digits",
        description="digits: scikit-learn's 1,797, embedded, 28x28; faces: 16,864, drawn with attributes at "
        "any size; shapes: 16,000 scenes with captions, likewise; skylines: 2,000, likewise; tissue: 4,000 "
        "with masks of five classes, likewise; mnist, fashion-mnist: 70,000 of 28x28, downloaded once; "
        "folder: images in a folder or a zip archive; idx: files like MNIST's; arrays: .npz or .npy; hub: a "
        "data set of the Hugging Face Hub. Told by the path's ending if unsaid",
    )
    path: str | None = Field(
        None,
        description="the folder, archive or file; for mnist and fashion-mnist a folder that holds the four "
        "idx files; for hub owner/name. Relative to where the command runs; recorded as an absolute path",
    )
    layout: Literal["auto", "classes", "metadata", "coco"] = Field(
        "auto",
        description="of a folder or archive. classes: a class for each subfolder; metadata: metadata.csv or "
        "metadata.jsonl beside the images; coco: annotations/*.json. auto: whichever is there",
    )
    subset: str | None = Field(None, description="configuration of a Hub data set that has several")
    revision: str | None = Field(None, description="branch, tag or commit of a Hub data set")
    size: int | tuple[int, int] | None = Field(
        None,
        description="pixels: one number for squares, or [height, width]; images are cropped about their "
        "centre and resized. Without it the images' own size, which must then be the same for all",
    )
    channels: Literal[1, 3] | None = Field(
        None, description="1 for grey, 3 for colour. Without it 3 as soon as one image has colour"
    )
    labels: bool = Field(True, description="take classes as a condition; false trains as if there were none")
    label: str | None = Field(
        None,
        description='column of the metadata that holds the class, instead of "label"; "folder" takes the '
        "first subfolder although there is metadata",
    )
    attributes: tuple[str, ...] | None = Field(
        None, description="columns of numbers taken as attributes; [] for none. Without it every such column"
    )
    attribute_range: tuple[float, float] | None = Field(
        None,
        description="values of attributes that can be right, such as [0, 1]; an image with another is bad",
    )
    need_attributes: bool | None = Field(
        None,
        description="an image that lacks an attribute is bad; otherwise it is trained without conditions",
    )
    mask: str | None = Field(
        None, description='column that names each image\'s mask, instead of "mask"; "none" takes no masks'
    )
    mask_classes: int | None = Field(
        None, ge=2, le=255, description="classes of the masks. Without it the largest number in them, plus 1"
    )
    text: str | tuple[str, ...] | None = Field(
        None, description='column or columns of captions, instead of "text", "caption", "text_1", ...'
    )
    text_features: str | None = Field(
        None,
        description="a .npy or .npz of features computed before, a row for each caption or each image: they "
        "become the text condition",
    )
    text_encoder: Literal["words", "sentences"] | Reference | None = Field(
        None,
        union_mode="left_to_right",
        description="what makes the text condition of the captions: words, sentences, a trained encoder "
        "(recipe:NAME, run:NAME), or a CLIP by path or Hub id",
    )
    held_out: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="share of the images kept from training, chosen by their content; "
        "data with an official test split holds out that split instead",
    )
    flip: bool = Field(False, description="mirror every second image, at random, left to right")
    turn: Literal["half", "quarter"] | None = Field(
        None, description="turn images at random, masks with them; quarter turns need square images"
    )
    balance: tuple[float, ...] | None = Field(
        None,
        description="how often each class is drawn, in any unit; then an image of it, at random. Of masks, "
        "images with a pixel of the class; of labels, those of it; one share more is for images of none. "
        "Without it every image once an epoch",
    )
    latents: LatentsConfig | None = Field(None, description="train on the latents of an autoencoder")
    skip_bad: bool = Field(
        False,
        description="leave out images that cannot be decoded, or whose row cannot be used, and rows without "
        "their image; otherwise they are named and refused",
    )
    follow_links: bool = Field(
        False,
        description="take images behind symbolic links that lead out of the folder; otherwise bad files",
    )

    @field_validator("balance")
    @classmethod
    def _shares(cls, balance: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if balance is not None and (min(balance, default=0) < 0 or not sum(balance)):
            raise ValueError(f"{list(balance)} should be shares of the classes, none below 0, not all 0")
        return balance

    @property
    def height_width(self) -> tuple[int, int] | None:
        """The size asked for in pixels, (H, W)."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    def choices(self, **more: Any) -> list[tuple[str, Any]]:
        """Everything that decides what is read from files, for the key of a source."""
        keys = {"size", "channels", "labels", "label", "attributes", "mask", "mask_classes", "text"}
        return sorted((self.model_dump(include=keys) | more).items())

    def column(self) -> str | None:
        """A key that names a column of metadata, where one does: without metadata it would mean nothing."""
        stated = {
            "label": self.label not in (None, "folder"),
            "attributes": bool(self.attributes),
            "mask": self.mask not in (None, "none"),
            "text": bool(self.text),
        }
        return next((key for key, names_column in stated.items() if names_column), None)

    @field_validator("size", mode="before")
    @classmethod
    def _pixels(cls, size: Any) -> Any:
        values = size if isinstance(size, list | tuple) else [size]
        whole = all(type(value) is int and 0 < value <= LARGEST for value in values)
        if size is None or (whole and len(values) in (1, 2)):
            return values[0] if len(values) == 1 else size
        raise ValueError(f"{size!r} should be pixels, such as 64, or [height, width], such as [64, 48]")

    @field_validator("attribute_range")
    @classmethod
    def _ascends(cls, ends: tuple[float, float] | None) -> tuple[float, float] | None:
        if ends and ends[0] >= ends[1]:
            raise ValueError(f"{list(ends)} should be a smaller and a larger number, such as [0, 1]")
        return ends

    @model_validator(mode="before")
    @classmethod
    def _path_says_what_it_is(cls, section: Any) -> Any:
        """What comes with the package has no files, so a path beside it means files of one's own."""
        path = section.get("path") if isinstance(section, Mapping) else None
        if not (isinstance(path, str) and path):
            return section
        source = section.get("source", "digits")
        source = _source_of(path) if source in EMBEDDED else source
        named = source == "hub" and not path.startswith((".", "/", "~"))  # owner/name, not a folder
        return {**section, "source": source, "path": path if named else absolute(path)}

    @field_validator("text_features")
    @classmethod
    def _absolute(cls, path: str | None) -> str | None:
        return absolute(path) if path else path


def source_follows_path(section: Mapping[str, Any]) -> dict[str, Any]:
    """The section after its path alone was changed: the source stays only where it still can be meant.

    That is for the Hub, and for a folder that holds idx files, such as those of mnist and fashion-mnist.
    """
    path, source = section.get("path"), section.get("source")
    if not isinstance(path, str) or source == "hub" or _holds_idx(os.path.expanduser(path)):
        return dict(section)
    return {key: value for key, value in section.items() if key != "source"}


def _holds_idx(path: str) -> bool:
    try:
        return any(_source_of(name) == "idx" for name in os.listdir(path))
    except OSError:
        return False  # no folder


def absolute(path: str) -> str:
    """The path from the root, so that a recorded recipe means the same from anywhere; links stay links."""
    return os.path.abspath(os.path.expanduser(path))


def _source_of(path: str) -> SourceName:
    """What kind of data a path's ending promises."""
    name = path.lower().removesuffix(".gz")
    if name.endswith((".npz", ".npy")):
        return "arrays"
    return "idx" if name.endswith(("-ubyte", ".idx")) else "folder"
