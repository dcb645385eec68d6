"""The commands about a bundle as a whole: sign and verify, pack and unpack, diff."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dad_edge.cli.messages import say
from dad_edge.cli.terminal import BundleOption, JsonOption, chosen_bundle, emit
from dad_edge.stream.addresses import hide_secrets

bundle_app = typer.Typer(
    help="Signatures, packed bundles, differences.", no_args_is_help=True, rich_markup_mode=None
)


@bundle_app.command("key")
def key_command(
    out: Annotated[
        Path, typer.Option(help="File of the private key; .pub is added for the other.")
    ],
) -> None:
    """Make a key to sign with, and its public part for those who check."""
    from dad_edge.errors import writing
    from dad_edge.signature import write_key_pair

    with writing(out):
        public = write_key_pair(out)
    say(f"{out} signs: keep it where bundles are made. {public} goes to every line.")


@bundle_app.command("sign")
def sign_command(
    key: Annotated[Path, typer.Option(help="Private key of Ed25519 in PEM.")],
    bundle: BundleOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign a bundle and its engines as they are now."""
    from dad_edge.bundle import PACKAGED, find_bundle, open_bundle
    from dad_edge.documents import to_mapping
    from dad_edge.errors import UsageError
    from dad_edge.files import sole_writer
    from dad_edge.signature import SIGNATURE, read_private_key, sign

    path, _ = find_bundle(bundle)
    if path == PACKAGED:
        raise UsageError("the demo bundle belongs to the package.", "name yours with --bundle")
    secret = read_private_key(key)
    open_bundle(path, to_sign=True)
    with sole_writer(path):
        signature = sign(path, secret)
    say(f"{path / SIGNATURE}: {len(signature.files)} files, key {signature.public_key}")
    if as_json:
        emit(to_mapping(signature))


@bundle_app.command("verify")
def verify_command(
    key: Annotated[
        Path | None,
        typer.Option(help="Public key in PEM; those of DAD_EDGE_TRUSTED_KEYS if left out."),
    ] = None,
    bundle: BundleOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether a bundle is as a trusted key signed it."""
    from dad_edge.bundle import find_bundle
    from dad_edge.errors import UsageError
    from dad_edge.signature import (
        TRUSTED_KEYS,
        changed_error,
        changed_files,
        check_signature,
        keys_in,
        trusted_keys,
        unsigned_files,
    )

    path, _ = find_bundle(bundle)
    keys = keys_in(key, "--key") if key else trusted_keys()
    if keys is None:
        raise UsageError(
            f"no key is named, and {TRUSTED_KEYS} is not set.", "name one with --key KEY.pub"
        )
    signature = check_signature(path, keys)
    changed = changed_files(path, signature.files)
    unsigned = unsigned_files(path, signature)
    if as_json:
        emit(
            {
                "bundle": str(path),
                "public_key": signature.public_key,
                "files": len(signature.files),
                "changed": changed,
                "unsigned": unsigned,
            }
        )
    for name in unsigned:
        say(f"{name}: came after the signature")
    if changed:
        raise changed_error(path, changed)
    say(f"{path}: {len(signature.files)} files are as {signature.public_key} signed them.")


@bundle_app.command("pack")
def pack_command(
    out: Annotated[
        str, typer.Option(help="The file, such as flange.zip or s3://bucket/flange.zip.")
    ],
    bundle: BundleOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a bundle with its engines into one file, with digests and the packages it needs."""
    from dad_edge.deploy.pack import pack
    from dad_edge.deploy.store import stored
    from dad_edge.documents import to_mapping

    shown = hide_secrets(out)
    with stored(out, shown) as file:
        contents = pack(chosen_bundle(bundle), file)
    say(f"{shown}: {len(contents.files)} files; 'dad-edge bundle unpack' checks and writes them")
    if as_json:
        emit(to_mapping(contents))


@bundle_app.command("unpack")
def unpack_command(
    file: Annotated[
        str, typer.Argument(help="A packed bundle, such as flange.zip or s3://bucket/flange.zip.")
    ],
    out: Annotated[Path, typer.Option(help="New folder for the bundle.")],
    as_json: JsonOption = False,
) -> None:
    """Check a packed bundle and write it into a new folder."""
    from dad_edge.deploy.pack import unpack
    from dad_edge.deploy.store import fetched

    with fetched(file, hide_secrets(file)) as packed:
        bundle = unpack(packed, out)
    say(f"{out}: {bundle.manifest.class_name}, as it was packed")
    if as_json:
        emit({"bundle": str(out), "sha256": bundle.onnx_digests})


@bundle_app.command("diff")
def diff_command(
    one: Annotated[Path, typer.Argument(help="A bundle's folder or a packed bundle.")],
    other: Annotated[Path, typer.Argument(help="The one to compare it with.")],
    as_json: JsonOption = False,
) -> None:
    """Say what differs between two bundles; exit code 1 if it can change a verdict."""
    from rich.console import Console

    from dad_edge.deploy.compare import difference_table, differences, opened

    with opened(one) as before, opened(other) as after:
        found = differences(before, after)
    if found:
        Console(stderr=True).print(difference_table((str(one), str(other)), found))
    else:
        say("no difference")
    if as_json:
        emit({"differences": [each.to_mapping() for each in found]})
    if any(each.changes_verdicts for each in found):
        raise typer.Exit(1)
