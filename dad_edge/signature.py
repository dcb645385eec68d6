"""Signatures of bundles: a line takes what one of its trusted keys signed, or what it built itself.

`signature.json` lists the SHA-256 of every file of a bundle that decides what is computed, and has
an Ed25519 signature (RFC 8032) over that list. What the operator may edit is not in it, thresholds
and the ignore mask, nor are reports.

Trust begins with `DAD_EDGE_TRUSTED_KEYS`, which names a file with public keys. Where it is not set,
nothing has to be signed.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dad_edge.documents import from_mapping, read_json, to_mapping
from dad_edge.errors import ModelError, UsageError, require
from dad_edge.files import read_whole, sha256_of, write_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

SIGNATURE = "signature.json"
FORMAT = 1
TRUSTED_KEYS = "DAD_EDGE_TRUSTED_KEYS"
"""Variable of the environment: file with public keys in PEM, one or several."""
OPERATORS = ("thresholds.json", "ignore.png")
"""Names of files that the operator may edit."""
UNSIGNED_FOLDERS = ("reports",)
UNSIGNED_SUFFIXES = (".cache", ".log")
"""Of files that each machine makes anew: kernels that a runtime compiled there, logs."""
_PURPOSE = "sign bundles and check their signatures"
_PEM_END = "-----END PUBLIC KEY-----"


@dataclass(frozen=True, kw_only=True, slots=True)
class Signature:
    """`signature.json`."""

    format: int
    public_key: str
    """The 32 bytes of the signer's public key, in Base64."""
    files: dict[str, str]
    """Path in the bundle → sha256."""
    signature: str
    """64 bytes over `message_of`, in Base64."""


def sign(folder: Path, key: Ed25519PrivateKey) -> Signature:
    """Sign all files of a bundle as they are now; an earlier signature is replaced.

    Args:
        folder: of the bundle.
        key: of whoever answers for it.

    Raises:
        StorageError: the signature cannot be written.
    """
    files = {path: sha256_of(folder / path) for path in sorted(_signed_paths(folder))}
    signature = Signature(
        format=FORMAT,
        public_key=_base64(key.public_key().public_bytes_raw()),
        files=files,
        signature=_base64(key.sign(message_of(files))),
    )
    write_json(folder / SIGNATURE, to_mapping(signature))
    return signature


def check_signature(folder: Path, keys: Mapping[str, Ed25519PublicKey]) -> Signature:
    """The signature of a bundle, which one of the keys made.

    It says nothing of the files yet: they have to be compared with it.

    Args:
        folder: of the bundle.
        keys: trusted public keys, by their bytes in Base64.

    Raises:
        ModelError: there is no signature, another key made it, or it does not belong to this list.
    """
    from cryptography.exceptions import InvalidSignature

    path = folder / SIGNATURE
    step = "get the bundle from whoever signs for this line ('dad-edge bundle sign')"
    if not os.path.lexists(path):
        raise ModelError(f"{folder} is not signed, and {TRUSTED_KEYS} is set.", step)
    signature = from_mapping(Signature, read_json(path), str(path))
    if signature.format != FORMAT:
        raise ModelError(f"{path}: format {signature.format} is not known.", step)
    key = keys.get(signature.public_key)
    if key is None:
        raise ModelError(f"{folder} is signed with a key that is not trusted here.", step)
    try:
        key.verify(_bytes(signature.signature), message_of(signature.files))
    except (InvalidSignature, binascii.Error, ValueError):
        raise ModelError(f"{path} was changed: its signature does not hold.", step) from None
    return signature


def changed_files(folder: Path, files: Mapping[str, str]) -> list[str]:
    """Files of a bundle that are missing, or not as they were signed.

    Args:
        folder: of the bundle.
        files: path in the bundle → sha256, all that were signed or some of them.
    """
    return [
        name
        for name, digest in files.items()
        if not (folder / name).is_file() or sha256_of(folder / name) != digest
    ]


def changed_error(folder: Path, changed: Sequence[str]) -> ModelError:
    """The error for a bundle that is not as it was signed."""
    return ModelError(
        f"{folder} was changed after it was signed: {', '.join(changed)}.",
        "get it again from whoever signed it; what was changed on purpose they sign anew",
    )


def unsigned_files(folder: Path, signature: Signature) -> list[str]:
    """Files of a bundle that came after its signature."""
    return sorted(set(_signed_paths(folder)) - signature.files.keys())


def message_of(files: Mapping[str, str]) -> bytes:
    """What is signed: the list as JSON without spaces, sorted."""
    listed = {"dad-edge bundle": FORMAT, "files": dict(files)}
    return json.dumps(listed, sort_keys=True, separators=(",", ":")).encode()


def trusted_keys() -> dict[str, Ed25519PublicKey] | None:
    """Keys whose signatures count here; None where nothing has to be signed.

    Raises:
        UsageError: the file that the environment names cannot be used.
        MissingDependency: cryptography is not installed.
    """
    named = os.environ.get(TRUSTED_KEYS)
    return None if named is None else keys_in(Path(named), TRUSTED_KEYS)


def keys_in(path: Path, named_by: str) -> dict[str, Ed25519PublicKey]:
    """The public keys of a file, by their bytes in Base64.

    Args:
        path: of a file with one or several keys in PEM.
        named_by: the option or variable that names it, for errors.

    Raises:
        UsageError: it cannot be read, or has no key or one that is not of Ed25519.
        MissingDependency: cryptography is not installed.
    """
    step = "name a file with public keys in PEM, as 'dad-edge bundle key' writes them"
    try:
        text = read_whole(path).decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise UsageError(
            f"{named_by} names '{path}', which cannot be read: {reason}.", step
        ) from error
    keys = [_public_key(part + _PEM_END, path) for part in text.split(_PEM_END)[:-1]]
    if not keys:
        raise UsageError(f"{path} holds no public key.", step)
    return {_base64(key.public_bytes_raw()): key for key in keys}


def _public_key(text: str, path: Path) -> Ed25519PublicKey:
    _need_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(text.strip().encode())
    except ValueError:
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(
            f"a public key in {path} is damaged, or not of Ed25519.",
            "make one with 'dad-edge bundle key'",
        )
    return key


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """A private key from a PEM file, as OpenSSL and `dad-edge bundle key` write it.

    Raises:
        UsageError: it cannot be read, is encrypted, or is none of Ed25519.
    """
    _need_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    step = "make one with 'dad-edge bundle key', or with 'openssl genpkey -algorithm ed25519'"
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", step) from error
    except TypeError:
        raise UsageError(f"{path} is encrypted.", "decrypt it with 'openssl pkey'") from None
    except ValueError:
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path} is not a private key of Ed25519.", step)
    return key


def write_key_pair(path: Path) -> Path:
    """Make a key: the private one for its owner's eyes, the public one beside it.

    Args:
        path: of the private key; the public one has the suffix `.pub`.

    Returns:
        Path of the public key.

    Raises:
        UsageError: there is such a file already.
        OSError: a file cannot be written.
    """
    _need_cryptography()
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    shown = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    public = path.with_name(f"{path.name}.pub")
    for target, content, mode in ((path, secret, 0o600), (public, shown, 0o644)):
        try:
            handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            raise UsageError(f"{target} exists already.", "choose another name") from None
        with os.fdopen(handle, "wb") as file:
            file.write(content)
    return public


def files_of(folder: Path) -> Iterator[str]:
    """Paths in a bundle of what belongs to it, not of what a machine made from it."""
    for path in folder.rglob("*"):
        inside = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in inside.parts)
        if hidden or inside.parts[0] in UNSIGNED_FOLDERS or not path.is_file():
            continue
        if inside.suffix not in UNSIGNED_SUFFIXES:
            yield inside.as_posix()


def _signed_paths(folder: Path) -> Iterator[str]:
    """Paths in a bundle that a signature covers."""
    for path in files_of(folder):
        if path.rpartition("/")[2] not in (SIGNATURE, *OPERATORS):
            yield path


def _need_cryptography() -> None:
    require("cryptography", "sign", _PURPOSE)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
