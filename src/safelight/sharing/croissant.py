"""The data of a run as Croissant 1.0, JSON-LD: https://docs.mlcommons.org/croissant/docs/croissant-spec.html"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safelight.config import UserError
from safelight.data.config import Data
from safelight.data.idx import FASHION_MNIST, FILES, MNIST
from safelight.data.listing import SUFFIXES
from safelight.loading.recorded import recipe_of
from safelight.store.directory import RunDirectory
from safelight.store.durable import mendable, sha256_of

CONTEXT = {
    "@language": "en", "@vocab": "https://schema.org/", "citeAs": "cr:citeAs", "column": "cr:column",
    "conformsTo": "dct:conformsTo", "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/", "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"}, "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty", "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract", "field": "cr:field", "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject", "fileSet": "cr:fileSet", "format": "cr:format", "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath", "key": "cr:key", "md5": "cr:md5",
    "parentField": "cr:parentField", "path": "cr:path", "recordSet": "cr:recordSet",
    "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated", "replace": "cr:replace",
    "samplingRate": "cr:samplingRate", "sc": "https://schema.org/", "separator": "cr:separator",
    "source": "cr:source", "subField": "cr:subField", "transform": "cr:transform",
}  # fmt: skip
Node = dict[str, Any]
HUB_HASH = "https://github.com/mlcommons/croissant/issues/80"  # what the Hub itself writes for a repository


def croissant(directory: RunDirectory, licence: str | None = None) -> str:
    """The data that a run was trained on. Raises UserError where an archive or folder cannot be read.

    Files are named with their SHA-256 where they are here. The identifier is the fingerprint of all pixels,
    conditions and captions in order, which the run has recorded.
    """
    facts, config = directory.info().facts.data, recipe_of(directory).data
    height, width = facts["shape"][1:]
    given = "; ".join(
        f"{name}: {condition['kind']} of {condition['size']}"
        + (f" ({', '.join(condition['names'])})" if condition["names"] else "")
        for name, condition in facts["conditions"].items()
    )
    distribution, fields = _distribution(config)
    node: Node = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": facts["name"],
        "description": f"{facts['train']:,} images to train on and {facts['held_out']:,} held out, seen at "
        f"{width}x{height} in {facts['shape'][0]} channels; {given or 'no conditions'}.",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "identifier": f"safelight:{facts['fingerprint']}",
        "distribution": distribution,
    }
    if licence:
        node["license"] = licence
    if fields:
        node["recordSet"] = [{"@type": "cr:RecordSet", "@id": "images", "name": "images", "field": fields}]
    return json.dumps(node, indent=2, ensure_ascii=False) + "\n"


def _distribution(config: Data) -> tuple[list[Node], list[Node]]:
    """The files of data, and the fields of an image in them; neither for data that are drawn."""
    if config.source in ("mnist", "fashion-mnist") and not config.path:
        published = MNIST if config.source == "mnist" else FASHION_MNIST
        named = zip(FILES, published.sums, strict=True)
        return [
            _file(name, published.mirrors[0] + name, "application/gzip", md5=md5) for name, md5 in named
        ], []
    if config.source == "hub":
        place = f"https://huggingface.co/datasets/{config.path}"
        revision = f"/tree/{config.revision}" if config.revision else ""
        return [_file("repository", place + revision, "git+https", sha256=HUB_HASH)], []
    nodes: list[Node] = []
    fields: list[Node] = []
    for number, path in enumerate(map(Path, config.paths)):
        if path.is_dir():
            kind = _set(f"files-{number}", [f"{path.name}/**/*{suffix}" for suffix in sorted(SUFFIXES)], None)
            nodes.append(kind)
        elif path.exists():
            form = "application/zip" if path.suffix.lower() == ".zip" else "application/octet-stream"
            with mendable(path):
                nodes.append(_file(path.name, path.name, form, sha256=sha256_of(path)))
            if form != "application/zip":
                continue
            kind = _set(f"files-{number}", [f"**/*{suffix}" for suffix in sorted(SUFFIXES)], path.name)
            nodes.append(kind)
        else:
            raise UserError(f"{path}: is not there; say where the data are now: data.path=NEW")
        fields = fields or [_field("image", "sc:ImageObject", kind["@id"], "content"),
                            _field("name", "sc:Text", kind["@id"], "fullpath")]  # fmt: skip
    return nodes, fields


def _file(name: str, url: str, form: str, **digest: str) -> Node:
    return {"@type": "cr:FileObject", "@id": name, "name": name, "contentUrl": url, "encodingFormat": form,
            **digest}  # fmt: skip


def _set(name: str, patterns: list[str], archive: str | None) -> Node:
    inside: Node = {"containedIn": {"@id": archive}} if archive else {}
    node = {"@type": "cr:FileSet", "@id": name, "name": name, "encodingFormat": "image/*"}
    return {**node, "includes": patterns, **inside}


def _field(name: str, kind: str, files: str, what: str) -> Node:
    source = {"fileSet": {"@id": files}, "extract": {"fileProperty": what}}
    return {"@type": "cr:Field", "@id": f"images/{name}", "name": name, "dataType": kind, "source": source}
