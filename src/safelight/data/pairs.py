"""Masks that their names pair with pictures: images/ and masks/, or x.png and x_mask.png."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Sequence

from safelight.config import UserError
from safelight.data.entries import Entries
from safelight.data.folders import Contents, by_folder, by_kohya

PICTURES = {"images", "image", "imgs", "img", "jpegimages", "photos", "pictures", "inputs", "input"}
MASKS = {
    *("masks", "mask", "labels", "label", "segmentation", "segmentations", "segmentationclass", "seg"),
    *("groundtruth", "gt", "mattes", "annotations", "maskimages", "labelimages", "segmentationmasks"),
}
NAMED = re.compile(
    r"(.+?)[ _.-](?:mask|masks|seg|segmentation|label|labels|matte|gt)([ _.-]?\d+)?", re.IGNORECASE
)
HINT = re.compile(r"[ _.-](?:mask|seg|label|matte|gt)", re.IGNORECASE)


def by_pair(contents: Contents) -> Entries | None:
    """Pictures with the masks that folders or names pair with them; classes as `by_kohya`, `by_folder` know.

    None where no more than a few would be paired: then those are pictures. Raises UserError where the recipe
    says that there are pairs.
    """
    images = contents.listing.images
    paired = _by_folder(images) or _by_name(images)
    if paired is None:
        _say_called_alike(contents)
        if contents.config.layout == "pairs":
            raise UserError(
                f"data.layout: {contents.path} has no masks that are called like images: images/x.png and "
                "masks/x.png, or x.png and x_mask.png; use layout=auto"
            )
        return None
    mask_of, masks, aside = paired
    files = [image for image in images if image not in masks and image not in aside]
    entries = by_kohya(contents, files) or by_folder(contents, files, _without(files, PICTURES))
    entries.masks = [mask_of.get(image) for image in entries.files]
    used = {*mask_of.values()}
    entries.notes.add_all("mask of no picture", sorted(masks - used), "no picture has its name")
    entries.notes.add_all("picture beside images/ and masks/", sorted(aside), "data.layout=classes reads it")
    without = [image for image in entries.files if image not in mask_of]
    entries.notes.add_all("picture without a mask", without, "trained without conditions")
    return entries


Paired = tuple[dict[str, str], set[str], set[str]]  # the mask of each image, all masks, other pictures


def _say_called_alike(contents: Contents) -> None:
    """Note pictures that are no pairs, but called like the mask of another."""
    stems = {posixpath.splitext(image)[0]: image for image in contents.listing.images}
    named = sorted(
        image for stem, image in stems.items() if (match := NAMED.fullmatch(stem)) and match[1] in stems
    )
    hint = "it is a picture like the others; masks in a folder masks/ are masks"
    contents.asides.add_all("picture called like the mask of another", named, hint)


def _plain(folder: str) -> str:
    """A folder's name in lower case, without what parts its words."""
    return re.sub(r"[ _.-]", "", folder.lower())


def _without(names: Sequence[str], folders: Collection[str]) -> list[str]:
    """The names without folders that are called so."""
    parted = (name.split("/") for name in names)
    return [
        "/".join([*(part for part in parts[:-1] if _plain(part) not in folders), parts[-1]])
        for parts in parted
    ]


def _by_folder(images: Sequence[str]) -> Paired | None:
    """Pairs of a folder of masks and one of pictures, or what lies beside the folder of masks."""
    common = posixpath.commonpath([posixpath.dirname(f"/{image}") for image in images]) if images else "/"
    under = [f"/{image}".removeprefix(common).lstrip("/") for image in images]
    places = {name.rpartition("/")[0] for name in under}
    if not any(_plain(part) in MASKS for folder in places for part in folder.split("/")):
        return None
    masks: dict[str, str] = {}
    pictures: dict[str, list[str]] = {}
    beside: dict[str, list[str]] = {}
    for name, short in zip(images, under, strict=True):
        *folders, last = short.split("/")
        stem = posixpath.splitext(last)[0]
        kinds = [_plain(folder) for folder in folders]
        rest = "/".join(folder for folder in folders if _plain(folder) not in PICTURES | MASKS)
        if MASKS.intersection(kinds):
            masks.setdefault(f"{rest}/{stem}", name)
            if match := NAMED.fullmatch(stem):
                masks.setdefault(f"{rest}/{match[1]}", name)
        else:
            known = pictures if PICTURES.intersection(kinds) else beside
            known.setdefault(f"{rest}/{stem}", []).append(name)
    chosen = pictures or beside
    mask_of = {name: masks[key] for key, names in chosen.items() if key in masks for name in names}
    everything = {*masks.values()}
    if not mask_of or 2 * len(mask_of) < min(sum(map(len, chosen.values())), len(everything)):
        return None
    aside = {name for names in beside.values() for name in names} if pictures else set()
    all_masks = {name for name, short in zip(images, under, strict=True)
                 if MASKS.intersection(_plain(part) for part in short.split("/")[:-1])}  # fmt: skip
    return mask_of, all_masks, aside


def _by_name(images: Sequence[str]) -> Paired | None:
    """Pairs x.png and x_mask.png in one folder."""
    if not any(HINT.search(image) for image in images):
        return None
    stems = {posixpath.splitext(image)[0]: image for image in images}
    masks = {image: stems[match[1]] for stem, image in stems.items()
             if (match := NAMED.fullmatch(stem)) and match[1] in stems}  # fmt: skip
    mask_of: dict[str, str] = {}
    for mask, image in masks.items():
        mask_of.setdefault(image, mask)
    left = sum(not NAMED.fullmatch(stem) for stem in stems)
    if not masks or 2 * len(mask_of) < left:
        return None
    return mask_of, {image for stem, image in stems.items() if NAMED.fullmatch(stem)}, set()
