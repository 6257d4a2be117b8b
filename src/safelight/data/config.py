"""The [data] section of a recipe."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from safelight.config import Reference, Section

SourceName = Literal[
    "digits", "faces", "shapes", "skylines", "tissue",
    "mnist", "fashion-mnist", "folder", "idx", "arrays", "hub",
]  # fmt: skip
EMBEDDED = ("digits", "faces", "shapes", "skylines", "tissue")  # no files, and but for faces no columns
LARGEST = 2**15  # pixels a side
MARGIN = 8  # of the size, one part is kept besides for random crops
Layout = Literal["auto", "metadata", "coco", "pairs", "kohya", "classes"]
KNOWN_CAPTIONS = ("auto", "sidecar", "name", "none")
Measured = Literal["measured"] | float | tuple[float, ...]


class LatentsConfig(Section):
    """[data.latents]: images are encoded once and trained on as latents; samples are decoded."""

    autoencoder: Reference
    """Autoencoder: recipe:NAME is trained first, run:NAME is a finished run of the method vae; anything
    else is the path or Hub id of a diffusers AutoencoderKL."""
    shift: Measured = "measured"
    """Shift of x = (latent - shift) * scale: one number, or one for each channel; measured: the mean."""
    scale: Measured = "measured"
    """Scale of x = (latent - shift) * scale; measured: one over the standard deviation. 0.18215 is usual
    for Stable Diffusion."""


class Data(Section):
    """[data]: images and conditions to train on. A path is enough: `data.path=photos/`."""

    source: SourceName = "digits"
    """Data to train on. digits: scikit-learn's 1,797 images of 28x28; mnist, fashion-mnist: 70,000 of
    28x28, downloaded once; drawn at any size: faces (16,864 with attributes), shapes (16,000 scenes with
    captions), skylines (2,000), tissue (4,000 with masks of five classes); folder: images in a folder or
    zip archive; idx: files like MNIST's; arrays: .npz or .npy; hub: a data set of the Hugging Face Hub.
    With a path, the default follows its ending."""
    path: str | tuple[str, ...] | None = None
    """Folder, archive or file of the images, or several folders and archives as a list; for mnist and
    fashion-mnist the folder of the four idx files; for hub owner/name. Relative to the current folder;
    recorded as an absolute path."""
    weights: tuple[float, ...] | dict[str, float] | str | None = None
    """How often images are drawn. A list: the share of each path; names of folders with a number each: that
    many times as often as others; a name: the metadata column that holds it. Whole numbers are repeats within
    an epoch. Default: what kohya's folders say (10_name), otherwise all alike."""
    layout: Layout = "auto"
    """Layout of a folder or archive. metadata: a table names the images (metadata.csv and its like, or
    stylegan's dataset.json); coco: annotations/*.json; pairs: images/ and masks/, or x.png and x_mask.png;
    kohya: folders 10_name of repeats and class; classes: a subfolder for each class; auto: the first of these
    that is there."""
    table: str | None = None
    """Table that names the images, by its path in the folder: .csv, .tsv, .jsonl, .json or .parquet. Default:
    metadata, captions, labels or dataset, whichever is there."""
    subset: str | None = None
    """Configuration of a Hub data set that has several."""
    revision: str | None = None
    """Branch, tag or commit of a Hub data set."""
    size: int | tuple[int, int] | None = None
    """Size in pixels: one number for squares, or [height, width]; data.fit says how images of
    other sizes come to it. Default: the size of the images, if all have the same."""
    fit: Literal["crop", "pad", "stretch", "contain"] = "crop"
    """How images come to data.size. crop: scaled until they cover it, then cut; contain: scaled until they
    fit in, with data.background around them; pad: like contain, but small images are not enlarged; stretch:
    scaled to it, whatever their proportions."""
    crop: Literal["centre", "top", "entropy", "random"] = "centre"
    """What a crop keeps: the centre; the top (and the centre from left to right); of nine places the one
    whose grey levels have the most entropy; random: another place each time an image is trained on, for which
    it is packed an eighth larger; all but training sees its centre."""
    buckets: Annotated[int, Field(ge=2, le=64)] | tuple[str | tuple[int, int], ...] | None = None
    """Aspect ratio buckets: images are brought to the nearest of several shapes of the area of data.size, and
    each batch is of one shape. The number of shapes to choose at most, or a list of [height, width] and of
    ratios "WIDTH:HEIGHT", such as ["3:2", [64, 64]]. For fully convolutional networks. Default: one shape."""
    bucket_multiple: int | None = Field(None, ge=1, le=1024)
    """Sides of buckets are multiples of so many pixels. Default: what the network needs."""
    smallest: int | None = Field(None, ge=1, le=LARGEST)
    """Images whose shorter side has fewer pixels are left out. Default: all are kept, and enlarged."""
    background: str = "#ffffff"
    """Colour under transparent pixels and around padded images, such as "black" or "#808080"."""
    white: Annotated[float, Field(gt=0)] | Literal["measured"] | None = None
    """Grey of 16-bit or floating-point images that is white, such as 4095 for 12 bits; measured: the largest
    99.9th percentile of 64 of them. Default: 65535; images of floating-point pixels are bad."""
    channels: Literal[1, 3, 4] | None = None
    """1 for grey, 3 for colour, 4 for colour and alpha, the colours over data.background. Default:
    3 if any image has colour."""
    labels: bool = True
    """Use classes as a condition."""
    clusters: int | None = Field(None, ge=2, le=10_000)
    """Classes for images that have none: so many groups of similar images, by k-means. Default: none."""
    captions: str = "auto"
    """Captions: "sidecar" (a .txt, .caption or .json file beside each image), "name" (the file's name),
    "none", or a metadata column. Default: the column text or caption, otherwise files beside the images."""
    shuffle_tags: int = Field(0, ge=0, le=64)
    """Orders of the comma-separated tags of each caption; one is drawn each time. 0 keeps them in order."""
    keep_tags: int = Field(0, ge=0, le=10**6)
    """Tags that stay first when others are shuffled."""
    label: str | None = None
    """Metadata column of the class; "folder" takes the first subfolder even where there is metadata.
    Default: label."""
    attributes: tuple[str, ...] | None = None
    """Metadata columns to use as attributes; [] = none. Default: every column of numbers."""
    attribute_range: tuple[float, float] | None = None
    """Smallest and largest valid attribute, such as [0, 1]; an image with another value is bad."""
    need_attributes: bool | None = None
    """Treat an image that lacks an attribute as bad. Default: false; it is trained without conditions."""
    mask: str | None = None
    """Metadata column of the masks; "alpha" takes each image's alpha channel; "none" ignores masks.
    Default: mask, or what the layout pairs with the images."""
    mask_classes: int | None = Field(None, ge=2, le=255)
    """Number of mask classes. Default: the largest number in the masks plus 1."""
    mask_values: Literal["auto", "numbers", "white", "soft"] = "auto"
    """Meaning of grey levels in masks. numbers: class numbers, 255 of no class; white: 255 is class 1 in
    masks of 0 and 255 alone, and greys are cut at one half; soft: the share of class 1, from 0 to 255;
    auto: white where all masks are black and white, otherwise numbers."""
    mask_colours: tuple[str, ...] = ()
    """Colours of the mask classes in their order, such as ["#000000", "sky=#4040ff"]."""
    text: str | tuple[str, ...] | None = None
    """Metadata column or columns of captions. Default: text, caption, text_1 and so on."""
    text_features: str | None = None
    """A .npy or .npz file of precomputed text features, a row for each caption or each image; they become
    the text condition."""
    text_encoder: Literal["words", "sentences"] | Reference | None = Field(None, union_mode="left_to_right")
    """Encoder that turns captions into the text condition: words, sentences, a trained encoder (recipe:NAME
    or run:NAME), or a CLIP by path or Hub id."""
    held_out: float = Field(0.1, ge=0, lt=1)
    """Share of images kept out of training, chosen by content. Data with an official test split holds out
    that split."""
    group: str | None = None
    """What stays on one side of the split, such as all photographs of a person: "folder" (the folder that
    holds the image), a metadata column, or a regular expression of the path, whose parentheses are the group:
    "([^/]+)_[0-9]+". Default: every image by itself; copies stay together."""
    flip: bool = False
    """Mirror every second image left to right, at random."""
    turn: Literal["half", "quarter"] | None = None
    """Turn images at random, with their masks; quarter turns need square images."""
    balance: tuple[float, ...] | None = None
    """How often each class is drawn, in any unit; an image of the class is then drawn at random. For masks:
    images with a pixel of the class. One additional share is for images of no class. Default: every image
    once an epoch."""
    without: tuple[str, ...] | None = None
    """Images and classes that do not count: names of items, "label=7", names of classes. Rows keep their
    places and every other draw stays. Can be changed while a run trains. Default: all count."""
    weight: dict[str, Annotated[float, Field(ge=0)]] | None = None
    """How much the loss of an image counts, by class or item, such as {"cat" = 0.5}: the loss of a batch is
    the weighted mean. Can be changed while a run trains. Default: all count alike."""
    latents: LatentsConfig | None = None
    """Train on the latents of an autoencoder."""
    skip_bad: bool = False
    """Leave out images and rows that cannot be read. Otherwise they are listed and training is refused."""
    follow_links: bool = False
    """Follow symbolic links that lead out of the folder. Otherwise such files are bad."""
    rules: Literal[1, 2] = 2
    """Rules by which a folder is read. 1: those of safelight 0.1, which knew no captions beside images, no
    pairs and no folders in a folder, and passed over colour profiles; runs of that time keep them."""

    @field_validator("buckets")
    @classmethod
    def _buckets(cls, buckets: Any) -> Any:
        for one in buckets if isinstance(buckets, tuple) else ():
            ratio = re.fullmatch(r"([1-9]\d{0,3}):([1-9]\d{0,3})", one) if isinstance(one, str) else None
            if not (ratio or (isinstance(one, tuple) and 0 < min(one) <= max(one) <= LARGEST)):
                raise ValueError(f'{one!r} should be [height, width] in pixels or a ratio such as "3:2"')
        return buckets or None

    @model_validator(mode="after")
    def _buckets_fit(self) -> Data:
        if self.buckets and self.size is None:
            raise ValueError("buckets: needs data.size, whose area every bucket has, such as data.size=64")
        if self.buckets and self.balance:
            raise ValueError("balance: draws by class, data.buckets by shape; remove one of them")
        if self.buckets and self.turn == "quarter":
            raise ValueError('turn: a quarter turn does not fit buckets; set data.turn="half"')
        return self

    @field_validator("background")
    @classmethod
    def _colour(cls, colour: str) -> str:
        from PIL import ImageColor

        try:
            ImageColor.getrgb(colour)
        except ValueError as error:
            raise ValueError(f'{colour!r} is no colour; expected such as "black" or "#808080"') from error
        return colour

    @field_validator("mask_colours")
    @classmethod
    def _colours(cls, colours: tuple[str, ...]) -> tuple[str, ...]:
        from safelight.data.masks import colour_table

        if len(colours) == 1 or len(colours) > 255:
            raise ValueError(f"states {len(colours)} colours; expected one for each class")
        try:
            colour_table(colours)
        except ValueError as error:
            raise ValueError(f'{error}; expected such as ["#000000", "sky=#4040ff"]') from error
        return colours

    @field_validator("group")
    @classmethod
    def _pattern(cls, group: str | None) -> str | None:
        if group and "(" in group:
            try:
                groups = re.compile(group).groups
            except re.error as error:
                raise ValueError(f"{group!r} is no regular expression ({error})") from error
            if not groups:
                raise ValueError(f"{group!r} has no group; put parentheses about the part that names it")
        return group

    @model_validator(mode="after")
    def _weights_fit(self) -> Data:
        numbers = self.weights.values() if isinstance(self.weights, dict) else self.weights
        if isinstance(numbers, str) or numbers is None:
            return self
        if min(numbers, default=0) < 0 or not sum(numbers):
            raise ValueError("weights: should be numbers from 0 on, not all 0")
        if isinstance(self.weights, tuple) and len(self.weights) != len(self.paths):
            raise ValueError(f"weights: states {len(self.weights)} shares for {len(self.paths)} paths")
        return self

    @model_validator(mode="after")
    def _clusters_fit(self) -> Data:
        if self.clusters and self.buckets:
            raise ValueError("clusters are of images of one size; remove clusters or buckets")
        return self

    @model_validator(mode="after")
    def _crop_fits(self) -> Data:
        if self.crop == "random":
            if self.fit != "crop" or self.size is None:
                raise ValueError('crop: "random" needs data.size, and data.fit="crop"')
            if self.latents:
                raise ValueError('crop: "random" is for pixels; latents are encoded once, with crop="centre"')
        return self

    @field_validator("without", mode="before")
    @classmethod
    def _listed(cls, without: Any) -> Any:
        without = [without] if type(without) in (str, int) else without
        return [*map(str, without)] if isinstance(without, list | tuple) else without

    @field_validator("balance")
    @classmethod
    def _shares(cls, balance: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if balance is not None and (min(balance, default=0) < 0 or not sum(balance)):
            raise ValueError(f"{list(balance)} should be shares of the classes, none below 0, not all 0")
        return balance

    @property
    def height_width(self) -> tuple[int, int] | None:
        """The size in pixels, (H, W)."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    @property
    def packed_size(self) -> tuple[int, int] | None:
        """The size in a pack, (H, W): larger where each step crops at random."""
        if self.crop != "random" or self.height_width is None:
            return self.height_width
        return with_margin(self.height_width)

    def choices(self, **more: Any) -> list[tuple[str, Any]]:
        """Everything that decides what is read from files, for the key of a source."""
        keys = {"size", "channels", "labels", "label", "attributes", "mask", "mask_classes", "text"}
        later = {
            "weights",
            "group",
            "table",
            "captions",
            "mask_values",
            "mask_colours",
            *("fit", "crop", "smallest", "background", "white", "rules"),
        }  # unset, keys are as they were
        stated = self.model_dump(include=later, exclude_defaults=True)
        return sorted((self.model_dump(include=keys) | stated | more).items())

    @property
    def paths(self) -> tuple[str, ...]:
        """Every path."""
        return (self.path,) if isinstance(self.path, str) else self.path or ()

    @property
    def place(self) -> str:
        """The first path, for messages and for sources of one path."""
        return self.paths[0] if self.paths else ""

    @property
    def texts(self) -> tuple[str, ...] | None:
        """The metadata columns of captions, where they are stated."""
        if self.captions not in KNOWN_CAPTIONS:
            return (self.captions,)
        return (self.text,) if isinstance(self.text, str) else self.text

    @property
    def grouped_by_column(self) -> bool:
        """Whether data.group names a column."""
        return bool(self.group) and self.group != "folder" and "(" not in str(self.group)

    def column(self) -> str | None:
        """A key that names a column of metadata, where one does: it needs metadata."""
        stated = {"label": self.label != "folder" and self.label, "attributes": self.attributes,
                  "mask": self.mask not in ("none", "alpha") and self.mask, "text": self.text,
                  "captions": self.captions not in KNOWN_CAPTIONS, "weights": isinstance(self.weights, str),
                  "table": self.table, "group": self.grouped_by_column}  # fmt: skip
        return next((key for key, column in stated.items() if column), None)

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
        """An embedded source has no files: with a path the user's files are meant."""
        path = section.get("path") if isinstance(section, Mapping) else None
        if isinstance(path, list | tuple) and path and all(isinstance(one, str) and one for one in path):
            source = "folder" if section.get("source", "digits") in EMBEDDED else section["source"]
            return {**section, "source": source, "path": tuple(map(absolute, path))}
        if not (isinstance(path, str) and path):
            return section
        source = section.get("source", "digits")
        if source in EMBEDDED and (inside := idx_folder(os.path.expanduser(path))):
            return {**section, "source": "idx", "path": absolute(inside)}
        source = _source_of(path) if source in EMBEDDED else source
        named = source == "hub" and not path.startswith((".", "/", "~"))  # owner/name, not a folder
        return {**section, "source": source, "path": path if named else absolute(path)}

    @field_validator("text_features")
    @classmethod
    def _absolute(cls, path: str | None) -> str | None:
        return absolute(path) if path else path


def with_margin(size: tuple[int, int]) -> tuple[int, int]:
    """The (H, W) that is kept for random crops to a size."""
    height, width = size
    return height + -(-height // MARGIN), width + -(-width // MARGIN)


def source_follows_path(section: Mapping[str, Any]) -> dict[str, Any]:
    """The section after its path alone was changed: the source stays only where it still can be meant.

    That is for the Hub, and for a folder that holds idx files, such as those of mnist and fashion-mnist.
    """
    path, source = section.get("path"), section.get("source")
    several = isinstance(path, list | tuple)
    if not several and (not isinstance(path, str) or source == "hub" or _holds_idx(os.path.expanduser(path))):
        return dict(section)
    return {key: value for key, value in section.items() if key != "source"}


def _holds_idx(path: str) -> bool:
    try:
        return any(_source_of(name) == "idx" for name in os.listdir(path))
    except OSError:
        return False  # no folder


def idx_folder(path: str) -> str | None:
    """The folder of idx files at a path, or the only one in it, as torchvision's MNIST/raw; else None."""
    from safelight.data.listing import SUFFIXES, suffix_of  # it imports NumPy

    for _ in range(3):
        try:
            entries = [entry for entry in os.scandir(path) if not entry.name.startswith(".")]
        except OSError:
            return None
        names = [entry.name for entry in entries if not entry.is_dir()]
        if any(_source_of(name) == "idx" and "images" in name.lower() for name in names):
            pictures = any(suffix_of(name) in SUFFIXES for name in names)
            return None if pictures else path
        folders = [entry.path for entry in entries if entry.is_dir() and entry.name != "processed"]
        if names or len(folders) != 1:
            return None
        (path,) = folders
    return None


def absolute(path: str) -> str:
    """The path from the root, so that a recorded recipe means the same from anywhere; links stay links."""
    return os.path.abspath(os.path.expanduser(path))


def _source_of(path: str) -> SourceName:
    """What kind of data a path's ending promises."""
    name = path.lower().removesuffix(".gz")
    if name.endswith((".npz", ".npy")):
        return "arrays"
    return "idx" if name.endswith(("-ubyte", ".idx")) else "folder"
