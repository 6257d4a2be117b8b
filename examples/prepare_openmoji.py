"""OpenMoji as a data set: images, captions, groups and alpha masks in a folder that safelight opens.

    npm pack openmoji && pip install resvg-py
    python examples/prepare_openmoji.py openmoji-17.0.0.tgz openmoji/ --size 64
    safelight data inspect openmoji/

The folder has images/, masks/ (1 where the emoji is, 0 where the page is) and metadata.csv with the columns
file_name, mask, label (OpenMoji's group), text (its annotation) and text_1 (its tags). Emoji that differ in
skin tone alone are left out unless asked for: a copy in another colour must not be held out from its twin.

OpenMoji is under CC BY-SA 4.0 (openmoji.org): name it where you show its emoji or what learnt from them.
"""

import argparse
import csv
import io
import json
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image


def main() -> None:
    """Render every emoji of the package."""
    ask = argparse.ArgumentParser(description="Render OpenMoji into a folder that safelight opens.")
    ask.add_argument("package", type=Path, help="openmoji-VERSION.tgz of npm pack, or its unpacked folder")
    ask.add_argument("out", type=Path, help="folder to make")
    ask.add_argument("--size", type=int, default=64, help="pixels a side (default: 64)")
    ask.add_argument("--skin-tones", action="store_true", help="also those that differ in skin tone alone")
    asked = ask.parse_args()
    try:
        from resvg_py import svg_to_bytes
    except ImportError:
        sys.exit("prepare_openmoji: resvg-py draws the emoji; run: pip install resvg-py")
    if (asked.out / "metadata.csv").exists():
        sys.exit(f"prepare_openmoji: {asked.out} is there already; choose another folder, or remove it")
    read = reader(asked.package)
    emoji = json.loads(read("data/openmoji.json"))
    if not asked.skin_tones:
        emoji = [one for one in emoji if not one["skintone"]]
    for folder in ("images", "masks"):
        (asked.out / folder).mkdir(parents=True, exist_ok=True)
    rows = []
    for number, one in enumerate(emoji, 1):
        name = f"{one['hexcode']}.png"
        svg = read(f"color/svg/{one['hexcode']}.svg").decode()
        drawn = Image.open(io.BytesIO(svg_to_bytes(svg_string=svg, width=asked.size, height=asked.size)))
        image, mask = on_white(drawn)
        image.save(asked.out / "images" / name)
        mask.save(asked.out / "masks" / name)
        tags = ", ".join(filter(None, (one["tags"], one["openmoji_tags"])))
        rows.append((f"images/{name}", f"masks/{name}", one["group"], one["annotation"], tags))
        if sys.stderr.isatty():
            print(f"\r{number} of {len(emoji)}", end="", file=sys.stderr)
    with (asked.out / "metadata.csv").open("w", newline="", encoding="utf-8") as file:  # last: whole or not
        table = csv.writer(file)
        table.writerow(("file_name", "mask", "label", "text", "text_1"))
        table.writerows(rows)
    print(f"\n{len(rows)} emoji of {len({row[2] for row in rows})} groups: {asked.out / 'metadata.csv'}")


def on_white(drawn: Image.Image) -> tuple[Image.Image, Image.Image]:
    """An emoji on a white page, and where it is: 1 where it covers half of a pixel or more, otherwise 0."""
    drawn = drawn.convert("RGBA")
    page = Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn).convert("RGB")
    return page, drawn.getchannel("A").point([int(level >= 128) for level in range(256)])


def reader(package: Path) -> Callable[[str], bytes]:
    """Files of the package by name, from its folder or its archive."""
    if package.is_dir():
        below = package / "package" if (package / "package").is_dir() else package
        return lambda name: (below / name).read_bytes()
    wanted = ("package/data/openmoji.json", "package/color/svg/")
    with tarfile.open(package) as archive:
        held = {
            member.name.removeprefix("package/"): file.read()
            for member in archive
            if member.name.startswith(wanted) and (file := archive.extractfile(member))
        }
    return lambda name: held[name]


if __name__ == "__main__":
    main()
