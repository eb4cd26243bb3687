"""Certificates: statements that bind a model's files to the verdict of the case that judged it (docs/certificate.md).

in-toto Statements (v1), with a predicate of our own; signed, where a key is given, as DSSE envelopes.
"""
