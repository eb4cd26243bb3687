"""`ftcheck verify`: exactly the certified files pass, whatever else was done to folder, certificate or signature."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftcheck.certificate import signing, statement
from ftcheck.certificate.checking import check, summary
from ftcheck.cli import main
from ftcheck.errors import CertificateError, MissingExtraError, UsageError
from tests.certificate.conftest import FILES, Certified, Keys, keys, stated


def verify(*arguments: object) -> int:
    """The exit code of `ftcheck verify`."""
    with pytest.raises(SystemExit) as ended:
        main(["verify", *map(str, arguments)])
    return int(ended.value.code or 0)


def test_the_certified_files_pass_in_one_line(certified: Certified, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(certified.model, certified.certificate) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out == (
        f"{certified.model} is the model that passed suites/s.ft.yaml::good (seed 42 of 1; 4 files, certified "
        "2026-11-21T10:00:00+00:00, not signed)\n"
    )


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def link(path: Path) -> None:
    """The same content, but behind a link."""
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param(lambda m: flip(m / "model.safetensors", 0), "model.safetensors differs", id="weights-first-byte"),
        pytest.param(lambda m: flip(m / "model.safetensors", 1000), "model.safetensors differs", id="weights-a-byte"),
        pytest.param(lambda m: flip(m / "model.safetensors", -1), "model.safetensors differs", id="weights-last-byte"),
        pytest.param(lambda m: flip(m / "config.json", 3), "config.json differs", id="config"),
        pytest.param(lambda m: flip(m / "tokenizer.json", 0), "tokenizer.json differs", id="tokenizer"),
        pytest.param(lambda m: (m / "sub/more.json").write_bytes(b""), "sub/more.json differs", id="emptied"),
        pytest.param(lambda m: (m / "tokenizer.json").unlink(), "tokenizer.json is missing", id="missing"),
        pytest.param(
            lambda m: (m / "modeling.py").write_text("import os"),
            "modeling.py is not one of the certified files",
            id="extra",
        ),
        pytest.param(lambda m: link(m / "config.json"), "config.json is a link or no plain file", id="link"),
        pytest.param(
            lambda m: (m / "extra").symlink_to("/"), "extra is a link or no plain file", id="link-to-a-folder"
        ),
        pytest.param(lambda m: os.mkfifo(m / "pipe"), "pipe is a link or no plain file", id="pipe"),
        pytest.param(
            lambda m: (m / "\x1b[31mred").write_text(""), "\\x1b[31mred is not one", id="control-characters-in-a-name"
        ),
    ],
)
def test_a_changed_folder_is_refused_and_the_file_is_named(
    certified: Certified, change: Callable[[Path], object], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change(certified.model)
    assert verify(certified.model, certified.certificate) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err
    assert "\x1b" not in err


def test_many_differences_are_counted(certified: Certified, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(500):
        (certified.model / f"extra-{number:03}").touch()
    assert verify(certified.model, certified.certificate) == 1
    err = capsys.readouterr().err
    assert "490 more: is not one of the certified files" in err
    assert len(err.splitlines()) == 12


def test_what_may_be_there_besides_is_said_by_name(certified: Certified) -> None:
    inside = certified.model / "cert.json"
    certified.certificate.rename(inside)
    assert verify(certified.model, inside) == 0, "the certificate may lie in the folder"
    (certified.model / "README.md").write_text("hello")
    assert verify(certified.model, inside) == 1
    assert verify(certified.model, inside, "--allow-extra", "*.md") == 0


def changed(statement_: statement.Statement, change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(statement_.to_bytes())
    change(document)
    return json.dumps(document).encode()


def renamed(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda d: d["subject"][0].update(name=name)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(renamed("../config.json"), id="parent"),
        pytest.param(renamed("/etc/passwd"), id="absolute"),
        pytest.param(renamed("sub/../config.json"), id="parent-within"),
        pytest.param(renamed("sub\\config.json"), id="backslash"),
        pytest.param(renamed("C:/config.json"), id="drive"),
        pytest.param(renamed("./config.json"), id="dot"),
        pytest.param(renamed(""), id="empty-name"),
        pytest.param(renamed("a\0b"), id="nul"),
        pytest.param(renamed("x" * 5000), id="long-name"),
        pytest.param(lambda d: d["subject"].append(d["subject"][0]), id="a-file-twice"),
        pytest.param(lambda d: d.update(subject=[]), id="no-files"),
        pytest.param(lambda d: d["subject"][0]["digest"].update(sha256="A" * 64), id="upper-case-digest"),
        pytest.param(lambda d: d["subject"][0].update(digest={"md5": "a" * 32}), id="another-digest"),
        pytest.param(lambda d: d.update(_type="https://in-toto.io/Statement/v0.1"), id="another-type"),
        pytest.param(lambda d: d.update(predicateType="https://slsa.dev/provenance/v1"), id="another-predicate"),
        pytest.param(lambda d: d.pop("predicate"), id="no-predicate"),
        pytest.param(lambda d: d["predicate"].update(verdict=True), id="verdict-of-another-type"),
    ],
)
def test_a_statement_that_is_none_is_a_usage_error(
    certified: Certified, change: Callable[[dict[str, Any]], object], capsys: pytest.CaptureFixture[str]
) -> None:
    certified.certificate.write_bytes(changed(certified.statement, change))
    assert verify(certified.model, certified.certificate) == 4
    err = capsys.readouterr().err
    assert err.startswith("ftcheck: ")
    assert "is no certificate" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xfe", id="no-text"),
        pytest.param(b"[]", id="a-list"),
        pytest.param(b"[" * 100_000, id="nested"),
        pytest.param(b'{"_type": 1, "_type": 2}', id="a-key-twice"),
        pytest.param(b'{"x": NaN}', id="nan"),
        pytest.param(b" " * (statement.LARGEST + 1), id="too-large"),
        pytest.param(b'{"payloadType": "application/vnd.in-toto+json"}', id="half-an-envelope"),
        pytest.param(b'{"payloadType": "x", "payload": "", "signatures": []}', id="another-payload"),
        pytest.param(b'{"payloadType": "x", "payload": "*", "signatures": 3}', id="no-base64"),
        pytest.param(
            b'{"payloadType": "application/vnd.in-toto+json", "payload": "", "signatures": [{"sig": "AA=="}]}',
            id="a-signature-of-nobody",
        ),
    ],
)
def test_a_broken_file_is_one_clear_error(
    certified: Certified, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    certified.certificate.write_bytes(content)
    assert verify(certified.model, certified.certificate) == 4
    err = capsys.readouterr().err
    assert str(certified.certificate) in err
    assert "no certificate" in err or "no DSSE envelope" in err or "holds x" in err
    assert len(err.splitlines()) == 1


def test_what_is_not_there_is_a_usage_error(certified: Certified, tmp_path: Path) -> None:
    assert verify(certified.model, tmp_path / "none.json") == 4
    assert verify(tmp_path / "none", certified.certificate) == 4
    assert verify(certified.model / "config.json", certified.certificate) == 4
    assert verify(certified.model, certified.certificate, "--key", tmp_path / "none.pem") == 1, "and it is unsigned"
    assert verify(certified.model) == 4


def test_a_later_version_may_say_more(certified: Certified) -> None:
    content = changed(certified.statement, lambda d: d["predicate"].update(more={"x": 1}))
    certified.certificate.write_bytes(content)
    assert verify(certified.model, certified.certificate) == 0


def test_a_verdict_that_is_no_pass_has_to_be_accepted(certified: Certified) -> None:
    found = stated(
        {file.name: file.digest.sha256 for file in certified.statement.subject}, verdict="inconclusive", allowed=True
    )
    certified.certificate.write_bytes(found.to_bytes())
    with pytest.raises(CertificateError, match="whose verdict was inconclusive"):
        check(certified.model, certified.certificate)
    checked = check(certified.model, certified.certificate, allow="inconclusive")
    assert checked.problems == ()
    assert "that was inconclusive in suites/s.ft.yaml::good" in summary(certified.model, checked)


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_signature_is_checked_with_the_public_key(certified: Certified, kind: str, tmp_path: Path) -> None:
    pair = keys(tmp_path, kind)
    content = signing.signed(certified.statement.to_bytes(), pair.private)
    certified.certificate.write_bytes(content)
    assert check(certified.model, certified.certificate, key=pair.public).signature == f"signed by {pair.public}"
    assert check(certified.model, certified.certificate).signature == "signature not checked (--key)"
    envelope = json.loads(content)
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    assert base64.b64decode(envelope["payload"]) == certified.statement.to_bytes()


def tampered(content: bytes, place: str) -> bytes:
    """An envelope with one thing changed."""
    envelope = json.loads(content)
    if place == "payload":
        payload = json.loads(base64.b64decode(envelope["payload"]))
        payload["predicate"]["metrics"] = [
            {"name": "accuracy", "value": 1.0, "per_seed": [1.0], "greater_is_better": True, "signature": "x"}
        ]
        envelope["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    elif place == "whitespace":
        envelope["payload"] = base64.b64encode(base64.b64decode(envelope["payload"]) + b" ").decode()
    elif place == "signature":
        signature = bytearray(base64.b64decode(envelope["signatures"][0]["sig"]))
        signature[10] ^= 1
        envelope["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    elif place == "keyid":
        envelope["signatures"][0]["keyid"] = "0" * 64
    elif place == "no-signature":
        envelope["signatures"] = []
    return json.dumps(envelope).encode()


@pytest.mark.parametrize("place", ["payload", "whitespace", "signature", "keyid", "no-signature"])
def test_a_tampered_envelope_is_refused(signed: Certified, pair: Keys, place: str) -> None:
    assert verify(signed.model, signed.certificate, "--key", pair.public) == 0
    signed.certificate.write_bytes(tampered(signed.certificate.read_bytes(), place))
    assert verify(signed.model, signed.certificate, "--key", pair.public) == 1


def test_every_byte_of_a_statement_is_covered_by_the_signature(certified: Certified, pair: Keys) -> None:
    payload = certified.statement.to_bytes()
    envelope = json.loads(signing.signed(payload, pair.private))
    for at in range(0, len(payload), 7):
        other = bytearray(payload)
        other[at] ^= 1
        content = json.dumps({**envelope, "payload": base64.b64encode(other).decode()}).encode()
        with pytest.raises(CertificateError, match="not signed by"):
            signing.opened(content, "cert.json", pair.public)


def test_another_key_or_none_is_refused(signed: Certified, certified: Certified, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = keys(tmp_path / "other")
    assert verify(signed.model, signed.certificate, "--key", other.public) == 1
    certified.certificate.write_bytes(certified.statement.to_bytes())
    with pytest.raises(CertificateError, match="is not signed"):
        check(certified.model, certified.certificate, key=other.public)


def test_a_key_that_is_none_is_said(signed: Certified, pair: Keys, tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("hello")
    with pytest.raises(UsageError, match="is no public key"):
        check(signed.model, signed.certificate, key=tmp_path / "no.pem")
    with pytest.raises(UsageError, match="is no public key"):
        check(signed.model, signed.certificate, key=pair.private)
    for path in (tmp_path / "no.pem", pair.public):
        with pytest.raises(UsageError, match="is no private key that can sign"):
            signing.signed(b"{}", path)


def test_an_encrypted_key_takes_its_password_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = keys(tmp_path, password=b"open sesame")
    with pytest.raises(UsageError, match="put its password in FTCHECK_SIGN_PASSWORD"):
        signing.signed(b"{}", pair.private)
    monkeypatch.setenv("FTCHECK_SIGN_PASSWORD", "open sesame")
    assert signing.opened(signing.signed(b"{}", pair.private), "x", pair.public)[0] == b"{}"
    monkeypatch.setenv("FTCHECK_SIGN_PASSWORD", "wrong")
    with pytest.raises(UsageError, match="is no private key that can sign"):
        signing.signed(b"{}", pair.private)


def test_without_the_library_the_extra_is_named(
    certified: Certified, pair: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "securesystemslib", None)
    with pytest.raises(MissingExtraError, match=r"ftcheck\[sign\]"):
        signing.signed(b"{}", pair.private)
    assert check(certified.model, certified.certificate).problems == (), "unsigned ones need none"


def test_all_files_are_opened_by_what_the_listing_found(certified: Certified, monkeypatch: pytest.MonkeyPatch) -> None:
    """No name out of a certificate is ever opened, whatever it says."""
    from ftcheck.certificate import folder

    opened: list[Path] = []
    real = folder.sha256

    def noted(path: Path) -> str:
        opened.append(path)
        return real(path)

    monkeypatch.setattr(folder, "sha256", noted)
    expected = {"../cert.json": "0" * 64, "config.json": "0" * 64}
    told = list(folder.differences(certified.model, expected))
    assert "../cert.json is missing" in told
    assert opened == [certified.model / "config.json"]
    assert len([line for line in told if "not one of" in line]) == len(FILES) - 1
