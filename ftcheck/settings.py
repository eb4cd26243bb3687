"""What the --ft-* options say, read and checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

CacheMode = Literal["use", "refresh", "off", "only"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the options say. Plain values, so that they cross processes."""

    device: str = "auto"
    cache: CacheMode = "use"
    cache_dir: str | None = None
    executor: Literal["inline", "local", "ray"] = "inline"
    ray_address: str | None = None
    jobs: int | None = None
    timeout: float | None = None
    """Seconds."""
    remote: str | None = field(default=None, repr=False)
    """May hold a password."""
    remote_readonly: bool = False
    remote_patience: int = 30
    vendor: str | None = None
    verify: str | None = None
    seeds: int | None = None
    limit: int | None = None
    plan: bool = False
    offline: bool = False
    allow_remote_code: bool = False
    json: str | None = None
    html: str | None = None
    details: bool = False
    profile: bool = False
    history: str | None = None
    """The file; None: the one in the cache directory; `none`: results are not recorded."""
    tensorboard: str | None = None
    mlflow: str | None = field(default=None, repr=False)
    """May hold a password."""
    strict: bool = False
    compare: str | None = None
    update: bool = False
    update_new: bool = False
    reason: str | None = None
    allow_ci_update: bool = False
    correction: Literal["none", "holm"] = "none"

    @property
    def updates(self) -> bool:
        """Whether baselines are written."""
        return self.update or self.update_new

    @property
    def charted(self) -> bool:
        """Whether a report wants what charts are made of."""
        return self.json is not None or self.html is not None
