"""A model's folder, its certificate, and keys to sign it with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from ftcheck.certificate import signing, statement

FILES = {
    "config.json": b'{"model_type": "bert"}',
    "model.safetensors": bytes(range(256)) * 8,
    "tokenizer.json": b"{}",
    "sub/more.json": b"[]",
}


@dataclass(frozen=True)
class Certified:
    """A folder and the certificate that speaks of it."""

    model: Path
    certificate: Path
    statement: statement.Statement


def stated(digests: dict[str, str], **changes: object) -> statement.Statement:
    """A certificate about files with these digests; `changes` are fields of its predicate."""
    predicate = {
        "ftcheck": "0.1.0",
        "created": "2026-11-21T10:00:00+00:00",
        "verdict": "pass",
        "allowed": False,
        "suite": {"name": "suites/s.ft.yaml", "digest": {"sha256": "a" * 64}, "case": "good", "task": "x"},
        "model": {"seed": 42, "form": "model", "checkpoint": "org/base"},
        "runs": [{"seed": 42, "train": "b" * 64, "predict": "c" * 64}],
        "rows": {"eval": {"count": 100, "digest": "e"}},
        "inputs": {},
        "environment": {"device": "cpu", "precision": "fp32", "libraries": {"torch": "2"}},
        "metrics": [],
        "gates": [],
        **changes,
    }
    return statement.Statement.model_validate(
        {
            "_type": statement.STATEMENT,
            "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in digests.items()],
            "predicateType": statement.PREDICATE,
            "predicate": predicate,
        }
    )


@pytest.fixture
def certified(tmp_path: Path) -> Certified:
    """A folder with FILES and its certificate, unsigned."""
    model = tmp_path / "model"
    for name, content in FILES.items():
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_bytes(content)
    found = stated({name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()})
    certificate = tmp_path / "cert.json"
    certificate.write_bytes(found.to_bytes())
    return Certified(model=model, certificate=certificate, statement=found)


@dataclass(frozen=True)
class Keys:
    """A pair of PEM files."""

    private: Path
    public: Path


def keys(folder: Path, kind: str = "ed25519", password: bytes | None = None) -> Keys:
    """A new pair in `folder`."""
    private: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    if kind == "ed25519":
        private = ed25519.Ed25519PrivateKey.generate()
    elif kind == "ecdsa":
        private = ec.generate_private_key(ec.SECP256R1())
    else:
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    found = Keys(private=folder / f"{kind}.pem", public=folder / f"{kind}.pub.pem")
    found.private.write_bytes(
        private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    )
    found.public.write_bytes(
        private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return found


@pytest.fixture
def pair(tmp_path: Path) -> Keys:
    """An Ed25519 pair."""
    return keys(tmp_path)


@pytest.fixture
def signed(certified: Certified, pair: Keys) -> Certified:
    """The same, signed."""
    certified.certificate.write_bytes(signing.signed(certified.statement.to_bytes(), pair.private))
    return certified
