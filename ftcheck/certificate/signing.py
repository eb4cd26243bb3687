"""DSSE envelopes, by securesystemslib: the signature covers a statement's bytes as they are."""

from __future__ import annotations

import binascii
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ftcheck.certificate.statement import document
from ftcheck.errors import CertificateError, MissingExtraError, UsageError, shown

if TYPE_CHECKING:
    from securesystemslib.signer import Key

PAYLOAD: Final = "application/vnd.in-toto+json"
PASSWORD: Final = "FTCHECK_SIGN_PASSWORD"  # noqa: S105  the name of a variable
"""The environment variable with the password of an encrypted private key."""
_LARGEST_KEY: Final = 64 * 1024


def signed(payload: bytes, key: Path) -> bytes:
    """An envelope around `payload`, signed with the private key in the PEM file `key`.

    Raises UsageError for a key that can't sign, MissingExtraError without the library.
    """
    _need()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner

    password = os.environ.get(PASSWORD)
    try:
        private = load_pem_private_key(_pem(key), password.encode() if password else None)
        signer = CryptoSigner(private)
    except TypeError:
        what = "is not encrypted: unset" if password else "is encrypted: put its password in"
        raise UsageError(f"the key {shown(key)} {what} {PASSWORD}") from None
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(
            f"{shown(key)} is no private key that can sign (PEM: Ed25519, ECDSA on a NIST curve, RSA): {shown(error)}"
        ) from None
    envelope = Envelope(payload, PAYLOAD, {})
    envelope.sign(signer)
    return (json.dumps(envelope.to_dict(), indent=1) + "\n").encode()


def opened(content: bytes, where: str, key: Path | None) -> tuple[bytes, str]:
    """(the statement's bytes, what is to be said of the signature) of a certificate, signed or not.

    With `key`, the PEM file of a public key, it must be signed by that: else CertificateError is raised. UsageError for
    what is no certificate or no key.
    """
    outer = document(content, where)
    if "payloadType" not in outer:
        if key is not None:
            raise CertificateError(f"{where} is not signed, and --key asks for a signature")
        return content, "not signed"
    _need()
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import FormatError, VerificationError

    try:
        envelope = Envelope.from_dict(outer)
    except (KeyError, ValueError, TypeError, AttributeError, binascii.Error, FormatError) as error:
        raise UsageError(f"{where} is no DSSE envelope: {type(error).__name__}: {shown(error)}") from None
    if envelope.payload_type != PAYLOAD:
        raise UsageError(f"{where} holds {shown(envelope.payload_type)}, not {PAYLOAD}")
    if key is None:
        return envelope.payload, "signature not checked (--key)"
    public = _public(key)
    try:
        envelope.verify([public], 1)
    except VerificationError:
        raise CertificateError(
            f"{where} is not signed by {shown(key)}: it was changed, or another key signed it"
        ) from None
    return envelope.payload, f"signed by {shown(key)}"


def _public(path: Path) -> Key:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.signer import SSlibKey

    try:
        return SSlibKey.from_crypto(load_pem_public_key(_pem(path)))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{shown(path)} is no public key (PEM): {shown(error)}") from None


def _pem(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST_KEY)
    except OSError as error:
        raise UsageError(f"the key {shown(path)} can't be read: {error.strerror or error}") from None


def _need() -> Any:
    try:
        import cryptography
        import securesystemslib
    except ImportError:
        raise MissingExtraError("a signed certificate", "securesystemslib and cryptography", "sign") from None
    return securesystemslib, cryptography
