"""Whether a folder holds the model that a certificate speaks of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ftcheck.certificate import folder as folders
from ftcheck.certificate import signing
from ftcheck.certificate import statement as st
from ftcheck.errors import CertificateError, shown
from ftcheck.report import numbers


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found."""

    statement: st.Statement
    signature: str
    """What is to be said of it."""
    problems: tuple[str, ...]
    """A line for each thing that isn't as it was certified; empty: all is."""


def check(
    model: Path, certificate: Path, *, key: Path | None = None, allow: str | None = None, extra: tuple[str, ...] = ()
) -> Checked:
    """Compare the folder `model` with the certificate in a file.

    `key` is a public key (PEM) that must have signed it, `allow` a verdict besides `pass` that will do, `extra`
    patterns of names that may be in the folder besides. Raises CertificateError where the signature isn't `key`'s,
    UsageError for a file that is no certificate, a key that is none, and a folder that can't be read.
    """
    where = shown(certificate)
    payload, signature = signing.opened(st.read(certificate), where, key)
    statement = st.parse(payload, where)
    found = statement.predicate
    if found.verdict not in ("pass", allow):
        raise CertificateError(
            f"{where} certifies a model whose verdict was {shown(found.verdict)}; --allow-verdict accepts that"
        )
    expected = {file.name: file.digest.sha256 for file in statement.subject}
    problems = tuple(folders.differences(model, expected, allow=extra, beside=certificate))
    return Checked(statement=statement, signature=signature, problems=problems)


def summary(model: Path, checked: Checked) -> str:
    """One line on a folder that is what was certified."""
    found = checked.statement.predicate
    said = "passed" if found.verdict == "pass" else f"was {shown(found.verdict, 20)} in"
    what = {"adapter": f"the adapter (of {shown(found.model.checkpoint, 80)})", "checkpoint": "the checkpoint"}
    through = ", ".join(shown(name, 40) for name in found.model.answered_through)
    return (
        f"{shown(model)} is {what.get(found.model.form, 'the model')} that {said} "
        f"{shown(found.suite.name)}::{shown(found.suite.case)} (seed {found.model.seed} of {len(found.runs)}"
        f"{f', judged through {through}' if through else ''}; {numbers.count(len(checked.statement.subject), 'file')}, "
        f"certified {shown(found.created, 40)}, {checked.signature})"
    )
