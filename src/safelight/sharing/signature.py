"""Signatures of a user's ssh key, made and checked by OpenSSH itself (`ssh-keygen -Y`): no library."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from safelight import files
from safelight.config import UserError
from safelight.store.durable import mendable

NAMESPACE = "safelight-run"  # a signature made for mail or git is none of a run
WHO = "signer"
PUBLIC = re.compile(r"(?:sk-)?(?:ssh|ecdsa)-[\w@.-]+ [A-Za-z0-9+/=]+")


@dataclass(frozen=True)
class Signature:
    """What is known of who made a file."""

    key: str  # type and fingerprint, "ED25519 key SHA256:..."; "" where it is not signed
    known: bool  # whether the key is one that --signer names

    def describe(self) -> str:
        """In words."""
        if not self.key:
            return "not signed: anyone may have made or changed it"
        if self.known:
            return f"by {self.key}, which --signer names"
        return f"by {self.key}; whose that is, only --signer KEY.pub can say"


def sign(text: bytes, key: Path) -> bytes:
    """The signature of a text. key: a private key, or a public one whose private key the agent has.

    Raises UserError.
    """
    with mendable(key):
        files.opened(key).close()
    return _run(f"--sign {key}", text, "sign", "-f", str(key))


def check(path: Path, text: bytes, signature: bytes | None, signer: Path | None) -> Signature:
    """Who signed the text of the file at a path. signer: public keys, a line each, as in an id_ed25519.pub.

    Raises UserError for a signature that does not fit, and unless a given signer made it.
    """
    if signature is None:
        if signer:
            raise UserError(f"{path}: is not signed, so {signer} cannot have signed it; leave out --signer")
        return Signature("", False)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "signature"
        place.write_bytes(signature)
        words = ["-s", str(place)]
        made = _run(f"{path}: its signature does not fit", text, "check-novalidate", *words).decode(
            errors="replace"
        )
        key = re.search(r"with (\S+ key SHA256:\S+)", made)
        if key is None:
            raise UserError(f"{path}: ssh-keygen does not say who signed it; install OpenSSH 8.9 or newer")
        if signer:
            allowed = Path(folder) / "allowed"
            lines = (f'{WHO} namespaces="{NAMESPACE}" {public}\n' for public in _public(signer))
            allowed.write_text("".join(lines), encoding="utf-8")
            why = f"{path}: is signed by {key[1]}, not by {signer}"
            _run(why, text, "verify", "-f", str(allowed), "-I", WHO, *words)
        return Signature(key[1], signer is not None)


def _public(path: Path) -> list[str]:
    """The public keys in a file, without their comments. Raises UserError."""
    with mendable(path):
        text = files.read(path, files.LONGEST).decode(errors="replace")
    if not (keys := PUBLIC.findall(text)):
        raise UserError(f"--signer {path}: holds no public key of ssh; give a file such as id_ed25519.pub")
    return keys


def _run(what: str, text: bytes, *words: str) -> bytes:
    command = ["ssh-keygen", "-Y", words[0], "-n", NAMESPACE, *words[1:]]
    try:
        done = subprocess.run(command, input=text, capture_output=True, check=False,
                              env={**os.environ, "LC_ALL": "C"})  # fmt: skip
    except FileNotFoundError as error:
        raise UserError(
            "ssh-keygen signs and checks shared runs, and is not installed; install OpenSSH"
        ) from error
    if done.returncode:
        reason = " ".join((done.stderr or done.stdout).decode(errors="replace").split())
        raise UserError(f"{what} ({reason[:200]})")
    return done.stdout
