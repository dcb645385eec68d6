"""Who may say what a line computes: signed bundles, engines that were signed or made here."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from small_networks import make_network_bundle, small_segmenter, write_images

pytest.importorskip("cryptography", reason="cryptography is not installed (extra 'sign')")

from dad_edge.bundle import ENGINES, PACKAGED, Bundle, find_bundle, open_bundle
from dad_edge.deploy.build import build, find_target
from dad_edge.errors import DadEdgeError, ModelError, UsageError
from dad_edge.files import sha256_of
from dad_edge.made import list_path, made_here, remember
from dad_edge.runtime.engines import check_engine, engines_here
from dad_edge.runtime.sidecar import SIDECAR
from dad_edge.signature import (
    SIGNATURE,
    TRUSTED_KEYS,
    Signature,
    changed_files,
    check_signature,
    keys_in,
    message_of,
    read_private_key,
    sign,
    unsigned_files,
    write_key_pair,
)

CPU = find_target(runtime="onnxruntime")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A private key; the public one lies beside it."""
    path = tmp_path / "maker.pem"
    write_key_pair(path)
    return path


@pytest.fixture
def signed(tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Bundle, str]:
    """A signed bundle with an engine, on a line that trusts its key and built nothing."""
    bundle = make_network_bundle(tmp_path / "bundle", small_segmenter())
    name = build(bundle, "fp16", CPU).name
    sign(bundle.path, read_private_key(key))
    monkeypatch.setenv(TRUSTED_KEYS, f"{key}.pub")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state of the line"))
    return bundle, name


def _edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    mapping = json.loads(path.read_text())
    change(mapping)
    path.write_text(json.dumps(mapping))


def test_what_a_trusted_key_signed_is_taken(signed: tuple[Bundle, str]) -> None:
    bundle, name = signed
    opened = open_bundle(bundle.path)
    assert opened.trusted is not None
    assert check_engine(opened, name).name == name
    assert [sidecar.name for sidecar in engines_here(opened)] == [name]


def test_without_keys_nothing_has_to_be_signed(
    signed: tuple[Bundle, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TRUSTED_KEYS)
    (signed[0].path / SIGNATURE).unlink()
    assert open_bundle(signed[0].path).trusted is None


def test_no_command_falls_back_to_the_demo_bundle(
    signed: tuple[Bundle, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAD_EDGE_BUNDLE", raising=False)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(UsageError, match="the demo bundle is not signed"):
        find_bundle()
    assert find_bundle(PACKAGED)[0] == PACKAGED
    monkeypatch.delenv(TRUSTED_KEYS)
    assert find_bundle()[0] == PACKAGED


def test_the_operator_may_edit_what_is_the_operators(signed: tuple[Bundle, str]) -> None:
    bundle, _ = signed
    (bundle.path / "thresholds.json").unlink(missing_ok=True)
    (bundle.path / "reports").mkdir()
    (bundle.path / "reports" / "anything").write_text("x")
    assert open_bundle(bundle.path).thresholds is None


@pytest.mark.parametrize("name", ["bundle.json", "denoiser.onnx", "segmenter.onnx"])
def test_another_file_in_its_place_is_refused(signed: tuple[Bundle, str], name: str) -> None:
    bundle, _ = signed
    content = (bundle.path / name).read_bytes()
    (bundle.path / name).write_bytes(content + b" ")
    with pytest.raises(ModelError, match=f"changed after it was signed: {name}"):
        open_bundle(bundle.path)


def test_a_manifest_that_was_made_to_fit_is_refused(signed: tuple[Bundle, str]) -> None:
    """Digests that travel with what they cover prove nothing; a signature does."""
    bundle, _ = signed
    path = bundle.path / "denoiser.onnx"
    model = onnx.load(path)
    model.producer_name = "somebody else"
    onnx.save(model, path)
    digest = sha256_of(path)
    _edit(bundle.path / "bundle.json", lambda m: m["sha256"].update({"denoiser.onnx": digest}))
    _edit(bundle.path / SIGNATURE, lambda m: m["files"].update({"denoiser.onnx": digest}))
    with pytest.raises(ModelError, match="its signature does not hold"):
        open_bundle(bundle.path)


def test_a_signature_that_leaves_the_networks_out_is_refused(
    signed: tuple[Bundle, str], key: Path
) -> None:
    bundle, _ = signed
    (bundle.path / "segmenter.onnx").rename(bundle.path / "aside")
    sign(bundle.path, read_private_key(key))
    (bundle.path / "aside").rename(bundle.path / "segmenter.onnx")
    with pytest.raises(ModelError, match=r"lacks segmenter\.onnx"):
        open_bundle(bundle.path)


def test_another_key_does_not_count(signed: tuple[Bundle, str], tmp_path: Path) -> None:
    bundle, _ = signed
    other = tmp_path / "other.pem"
    write_key_pair(other)
    sign(bundle.path, read_private_key(other))
    with pytest.raises(ModelError, match="a key that is not trusted here"):
        open_bundle(bundle.path)


def test_a_bundle_without_signature_is_refused(signed: tuple[Bundle, str]) -> None:
    bundle, _ = signed
    (bundle.path / SIGNATURE).unlink()
    with pytest.raises(ModelError, match=f"is not signed, and {TRUSTED_KEYS} is set") as caught:
        open_bundle(bundle.path)
    assert "dad-edge bundle sign" in caught.value.next_step
    assert open_bundle(PACKAGED).trusted is None, "the demo bundle comes with the program"


@pytest.mark.parametrize("damage", [b"", b"[]", b"{}", b'{"format": 1}'])
def test_a_damaged_signature_is_refused(signed: tuple[Bundle, str], damage: bytes) -> None:
    bundle, _ = signed
    (bundle.path / SIGNATURE).write_bytes(damage)
    with pytest.raises(DadEdgeError):
        open_bundle(bundle.path)


def test_a_gate_that_was_talked_into_passing_is_refused(signed: tuple[Bundle, str]) -> None:
    bundle, name = signed
    passed = {"passed": True, "reason": "trust me"}
    _edit(bundle.path / ENGINES / name / SIDECAR, lambda m: m.update(gate=passed))
    with pytest.raises(ModelError, match=r"engine\.json was neither signed .* nor made here"):
        check_engine(open_bundle(bundle.path), name)


def test_an_engine_that_was_built_here_is_taken(signed: tuple[Bundle, str]) -> None:
    bundle, _ = signed
    opened = open_bundle(bundle.path)
    name = build(opened, "fp32", CPU).name
    assert check_engine(open_bundle(bundle.path), name).name == name
    assert "engines" in {Path(p).parts[0] for p in unsigned_files(bundle.path, _signature(bundle))}
    list_path().unlink()
    with pytest.raises(ModelError, match="was neither signed by a trusted key nor made here"):
        check_engine(open_bundle(bundle.path), name)


def test_an_engine_that_was_judged_here_stays_trusted(
    signed: tuple[Bundle, str], tmp_path: Path
) -> None:
    from dad_edge.gate.images import images_of
    from dad_edge.gate.verify import verify

    bundle, name = signed
    opened = open_bundle(bundle.path)
    verify(opened, name, images_of(opened, write_images(tmp_path / "good", 3)))
    again = open_bundle(bundle.path)
    assert changed_files(bundle.path, _signature(bundle).files) == [f"{ENGINES}/{name}/{SIDECAR}"]
    assert check_engine(again, name).name == name


def _signature(bundle: Bundle) -> Signature:
    return check_signature(bundle.path, keys_in(Path(os.environ[TRUSTED_KEYS]), TRUSTED_KEYS))


def test_code_for_the_host_is_run_from_here_or_from_who_is_trusted(
    tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_network_bundle(tmp_path / "bundle", small_segmenter())
    name = build(bundle, "fp16", CPU).name
    option = {"version_compatible": True}
    _edit(bundle.path / ENGINES / name / SIDECAR, lambda m: m["options"].update(option))
    assert check_engine(bundle, name).options.version_compatible, "it was built here"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
    with pytest.raises(ModelError, match="it brings code for this computer's processor"):
        check_engine(bundle, name)
    sign(bundle.path, read_private_key(key))
    monkeypatch.setenv(TRUSTED_KEYS, f"{key}.pub")
    assert check_engine(open_bundle(bundle.path), name).options.version_compatible


def test_what_a_signature_covers_and_says(tmp_path: Path, key: Path) -> None:
    folder = tmp_path / "files"
    covered = ["z.json", "a/b.bin", "a/reports/kept.bin", "m.onnx"]
    free = [".hidden", ".git/config", "a/.cache/x", "reports/index.html", "a/run.log", "k.cache"]
    for name in (*covered, *free, "thresholds.json", "a/ignore.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    private = read_private_key(key)
    signature = sign(folder, private)
    digests = {name: sha256_of(folder / name) for name in covered}
    assert signature.files == digests
    listed = ",".join(f'"{name}":"{digests[name]}"' for name in sorted(covered))
    message = f'{{"dad-edge bundle":1,"files":{{{listed}}}}}'
    assert message_of(dict(reversed(digests.items()))) == message.encode()
    private.public_key().verify(base64.b64decode(signature.signature), message.encode())
    assert json.loads((folder / SIGNATURE).read_text())["format"] == 1

    (folder / "z.json").unlink()
    assert changed_files(folder, signature.files) == ["z.json"]
    assert unsigned_files(folder, signature) == []


@pytest.mark.parametrize("number", [0, 2])
def test_a_format_of_another_version_is_refused(
    signed: tuple[Bundle, str], key: Path, number: int
) -> None:
    bundle, _ = signed
    _edit(bundle.path / SIGNATURE, lambda mapping: mapping.update(format=number))
    with pytest.raises(ModelError, match=f"format {number} is not known"):
        check_signature(bundle.path, keys_in(Path(f"{key}.pub"), TRUSTED_KEYS))


def test_a_signature_is_base64_and_nothing_else(signed: tuple[Bundle, str], key: Path) -> None:
    bundle, _ = signed
    _edit(
        bundle.path / SIGNATURE,
        lambda mapping: mapping.update(signature=f"{mapping['signature']}\n"),
    )
    with pytest.raises(ModelError, match="its signature does not hold"):
        check_signature(bundle.path, keys_in(Path(f"{key}.pub"), TRUSTED_KEYS))


def test_several_keys_in_one_file(signed: tuple[Bundle, str], tmp_path: Path, key: Path) -> None:
    bundle, _ = signed
    other = write_key_pair(tmp_path / "other.pem")
    both = tmp_path / "keys.pem"
    both.write_text(other.read_text() + Path(f"{key}.pub").read_text())
    assert len(keys_in(both, "--key")) == 2
    assert check_signature(bundle.path, keys_in(both, "--key")).files


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read: No such file"),
        ("", "holds no public key"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "damaged, or not of"),
        ("\u00fc", "cannot be read: it is no text"),
    ],
)
def test_a_file_of_keys_that_has_none(
    signed: tuple[Bundle, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: str | None,
    reason: str,
) -> None:
    if content is not None:
        (tmp_path / "keys").write_text(content, encoding="utf-8")
    monkeypatch.setenv(TRUSTED_KEYS, str(tmp_path / "keys"))
    with pytest.raises(UsageError, match=reason):
        open_bundle(signed[0].path)


def test_a_private_key_is_for_its_owners_eyes(tmp_path: Path) -> None:
    key, earlier = tmp_path / "maker.pem", os.umask(0)
    try:
        public = write_key_pair(key)
    finally:
        os.umask(earlier)
    assert (key.stat().st_mode & 0o777, public.stat().st_mode & 0o777) == (0o600, 0o644)
    with pytest.raises(UsageError, match="exists already"):
        write_key_pair(key)
    with pytest.raises(UsageError, match="cannot be read"):
        read_private_key(tmp_path / "none")
    with pytest.raises(UsageError, match="is not a private key of Ed25519"):
        read_private_key(Path(f"{key}.pub"))


def test_openssl_makes_and_checks_the_same_keys(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    made = tmp_path / "openssl.pem"
    command = ["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(made)]
    subprocess.run(command, check=True, capture_output=True)
    assert len(read_private_key(made).public_key().public_bytes_raw()) == 32
    encrypted = tmp_path / "encrypted.pem"
    subprocess.run(
        ["openssl", "pkey", "-in", str(made), "-aes256", "-passout", "pass:x", "-out", encrypted],
        check=True,
        capture_output=True,
    )
    with pytest.raises(UsageError, match="is encrypted"):
        read_private_key(encrypted)


def test_the_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import dad_edge.__main__ as cli

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dad-edge", *map(str, words)])
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        else:
            code = 0
        output = capsys.readouterr()
        return code, output.out, output.err

    bundle = make_network_bundle(tmp_path / "bundle", small_segmenter())
    here = ("--bundle", bundle.path)
    key = tmp_path / "line.pem"
    assert run("bundle", "key", "--out", key)[0] == 0
    assert run("bundle", "verify", *here)[0] == UsageError.exit_code
    code, _, said = run("bundle", "verify", *here, "--key", f"{key}.pub")
    assert (code, "is not signed" in said) == (ModelError.exit_code, True)
    code, printed, said = run("bundle", "sign", *here, "--key", key, "--json")
    assert code == 0, said
    assert {"bundle.json", "denoiser.onnx", "segmenter.onnx"} <= json.loads(printed)["files"].keys()
    assert run("bundle", "verify", *here, "--key", f"{key}.pub")[0] == 0
    build(bundle, "fp16", CPU)
    code, printed, said = run("bundle", "verify", *here, "--key", f"{key}.pub", "--json")
    assert code == 0
    assert "engine.json: came after the signature" in said
    assert len(json.loads(printed)["unsigned"]) == 3
    (bundle.path / "denoiser.onnx").write_bytes(b"")
    code, printed, said = run("bundle", "verify", *here, "--key", f"{key}.pub", "--json")
    assert code == ModelError.exit_code
    assert json.loads(printed)["changed"] == ["denoiser.onnx"]
    code, _, said = run("bundle", "sign", "--key", key, "--bundle", PACKAGED)
    assert (code, "belongs to the package" in said) == (UsageError.exit_code, True)


def test_a_list_that_cannot_be_written_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    remember([tmp_path / "file"])
    assert "what was built here counts as unsigned" in caplog.text
    assert made_here() == frozenset()
