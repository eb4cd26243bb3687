"""Results over time: what every session found, in a file of the user's cache or of the project."""

from __future__ import annotations

from ftcheck.history.log import History, Judged, Known, Record, Session, drifted
from ftcheck.history.recording import NAME, NONE, Recorder, recorder

__all__ = ["NAME", "NONE", "History", "Judged", "Known", "Record", "Recorder", "Session", "drifted", "recorder"]
