"""Fetch the page's libraries from npm into src/safelight/web/vendor/, with their licences and SHA-256s.

    python .ci/vendor.py            # fetch, and rewrite the imports
    python .ci/vendor.py --check    # only compare what is there with the recorded SHA-256s

Versions are pinned here. Bare imports become relative ones: the page's CSP refuses an inline import map. The engine
of pages that draw is kept deflated, as it is put into them; 1.23.2 is a quarter smaller than 1.30.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import zlib
from pathlib import Path

ROOT = Path(__file__).parents[1]
WEB, TESTS = ROOT / "src/safelight/web/vendor", ROOT / "tests/web/vendor"
PACKAGES = {  # npm package: folder, and the file kept of each of its files
    "preact@11.2.0": (WEB, {"dist/preact.mjs": "preact.js", "hooks/dist/hooks.mjs": "hooks.js",
                            "LICENSE": "preact.LICENSE"}),
    "htm@3.1.1": (WEB, {"dist/htm.mjs": "htm.js", "LICENSE": "htm.LICENSE"}),
    "uplot@1.6.32": (WEB, {"dist/uPlot.esm.js": "uplot.js", "dist/uPlot.min.css": "uplot.css",
                           "LICENSE": "uplot.LICENSE"}),
    "onnxruntime-web@1.23.2": (WEB, {"dist/ort.wasm.bundle.min.mjs": "ort.js",
                                     "dist/ort-wasm-simd-threaded.wasm": "ort.wasm.deflate"}),
    "axe-core@4.14.1": (TESTS, {"axe.min.js": "axe.min.js", "LICENSE": "axe.LICENSE"}),
}  # fmt: skip
IMPORTS = {b'from"preact"': b'from"./preact.js"', b'from "preact"': b'from "./preact.js"'}
SUMS = "sha256.json"


def fetch() -> None:
    """Download, unpack, rewrite and record."""
    sums: dict[Path, dict[str, str]] = {WEB: {}, TESTS: {}}
    for package, (folder, files) in PACKAGES.items():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as place:
            packed = subprocess.run(["npm", "pack", "--silent", package], cwd=place, check=True,
                                    capture_output=True, text=True).stdout.strip()  # fmt: skip
            with tarfile.open(fileobj=io.BytesIO((Path(place) / packed).read_bytes())) as archive:
                for source, name in files.items():
                    member = archive.extractfile(f"package/{source}")
                    assert member is not None, source
                    data = member.read()
                    for bare, relative in IMPORTS.items():
                        data = data.replace(bare, relative)
                    if name.endswith(".js"):  # source maps are not vendored
                        data = b"\n".join(line for line in data.split(b"\n") if not line.startswith(b"//# "))
                    if name.endswith(".deflate"):
                        press = zlib.compressobj(9, zlib.DEFLATED, -15)
                        data = press.compress(data) + press.flush()
                    _keep(folder / name, data, sums[folder])
    for name in ("LICENSE", "ThirdPartyNotices.txt"):  # npm's package lacks them, the Python one has them
        data = importlib.resources.files("onnxruntime").joinpath(name).read_bytes()
        _keep(WEB / f"ort.{name}", data, sums[WEB])
    for folder, listed in sums.items():
        packages = [package for package, (place, _) in PACKAGES.items() if place == folder]
        text = json.dumps({"packages": packages, "files": listed}, indent=2)
        (folder / SUMS).write_text(text + "\n")


def _keep(path: Path, data: bytes, sums: dict[str, str]) -> None:
    path.write_bytes(data)
    sums[path.name] = hashlib.sha256(data).hexdigest()


def check() -> list[str]:
    """Files that are not what was fetched."""
    wrong = []
    for folder in (WEB, TESTS):
        for name, sha256 in json.loads((folder / SUMS).read_text())["files"].items():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != sha256:
                wrong.append(f"{folder.relative_to(ROOT)}/{name}")
    return wrong


if __name__ == "__main__":
    if "--check" not in sys.argv:
        fetch()
    sys.exit("\n".join(check()) or 0)
