"""`ftcheck certify` and `ftcheck verify`: models that passed, and proof that others are those."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ftcheck.cli.calibrate import CaseNode, Device, passed_on
from ftcheck.cli.common import PROBLEM, CacheDir

if TYPE_CHECKING:
    from ftcheck.certificate.statement import Statement
    from ftcheck.validate import Judged


class Undecided(StrEnum):
    """Verdicts that are neither a pass nor a failure."""

    NEW = "new"
    INCONCLUSIVE = "inconclusive"


def certify(  # noqa: PLR0917  typer's way of declaring options
    case: CaseNode,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the certificate goes.", metavar="CERT.json")],
    model_dir: Annotated[
        Path | None, typer.Option("--model-dir", help="A new folder that the model's files go to.", metavar="DIR")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Whose model it is (default: the first seed's).")] = None,
    sign_key: Annotated[
        Path | None, typer.Option("--sign-key", help="Sign it with this private key.", metavar="PEM")
    ] = None,
    allow_verdict: Annotated[
        Undecided | None, typer.Option("--allow-verdict", help="Certify in spite of this verdict, and say so.")
    ] = None,
    device: Device = None,
    cache_dir: CacheDir = None,
) -> None:
    """Certify the model of a case that passes out of the store: what its files are, and how they were judged. Trains
    nothing. Exit code 1 where the case did not pass."""
    from ftcheck.certificate import issuing, signing
    from ftcheck.errors import CertificateError, shown
    from ftcheck.report import numbers
    from ftcheck.validate import with_judged

    def work(judged: Judged) -> Statement:
        if judged.measured is None:
            raise CertificateError(
                f"{judged.case.id} is not certified: it can't be judged out of the store (run pytest first): "
                f"{judged.result.error}"
            )
        return issuing.issue(
            judged.case,
            judged.measured,
            judged.result,
            root=judged.root,
            seed=seed,
            allow=allow_verdict.value if allow_verdict else None,
            model_dir=model_dir,
        )

    if sign_key is not None:
        signing.signed(b"", sign_key)  # what is wrong with the key is said before the work
    statement = with_judged(case, ["--ft-cache=only", *passed_on(device, cache_dir)], work)
    content = statement.to_bytes()
    issuing.write(output, content if sign_key is None else signing.signed(content, sign_key))
    found, files = statement.predicate, numbers.count(len(statement.subject), "file")
    print(
        f"{shown(output)}: {files} of seed {found.model.seed}, verdict {found.verdict}"
        + (f", signed with {shown(sign_key)}" if sign_key else "")
        + (f"; the files are in {shown(model_dir)}" if model_dir else "")
    )


def verify(
    model: Annotated[Path, typer.Argument(help="The folder that is to be merged or deployed.", metavar="MODEL_DIR")],
    certificate: Annotated[Path, typer.Argument(help="What `ftcheck certify` wrote.", metavar="CERT.json")],
    key: Annotated[
        Path | None, typer.Option("--key", help="The public key that must have signed it.", metavar="PEM")
    ] = None,
    allow_verdict: Annotated[
        Undecided | None, typer.Option("--allow-verdict", help="Accept a certificate of this verdict too.")
    ] = None,
    allow_extra: Annotated[
        list[str] | None,
        typer.Option("--allow-extra", help="A file that may be there besides, as README.md or *.md.", metavar="NAME"),
    ] = None,
) -> None:
    """Prove that a folder holds exactly the files that a certificate speaks of. Exit code 1 where it does not, or
    where the signature is not that of --key."""
    from ftcheck.certificate import checking
    from ftcheck.errors import shown

    checked = checking.check(
        model,
        certificate,
        key=key,
        allow=allow_verdict.value if allow_verdict else None,
        extra=tuple(allow_extra or ()),
    )
    if checked.problems:
        print(f"{shown(model)} is not what {shown(certificate)} certifies:", file=sys.stderr)
        for problem in checked.problems:
            print(f"  {problem}", file=sys.stderr)
        raise typer.Exit(PROBLEM)
    print(checking.summary(model, checked))
