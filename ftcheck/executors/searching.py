"""What is found once for all runs of a case, before the first of them is trained."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, replace

from ftcheck.executors import SearchWork, Work
from ftcheck.finetune import Found, Job, OnProgress, techniques
from ftcheck.store import Store


def informed(work: Work, store: Store, on_progress: OnProgress, on_wait: Callable[[str], None]) -> Job:
    """The job of `work` with what its case's search found; the search is done now if nobody has done it yet."""
    searching = techniques.searching(work.job.case)
    if work.search is None or searching is None:
        return work.job
    with store.lock("searches", work.search.key.digest, on_wait=on_wait):
        entry = None if work.search.redo else store.get("searches", work.search.key.digest)
        if entry is None:
            found = _searched(searching, work, work.search, store, on_progress)
        else:
            found = Found(**{**entry.content, "notes": tuple(entry.content["notes"])})
    case = work.job.case
    with_values = replace(case, training={**(case.training or {}), **found.training})
    return replace(work.job, case=with_values, found={searching.name: found})


def _searched(
    searching: techniques.Technique, work: Work, search: SearchWork, store: Store, on_progress: OnProgress
) -> Found:
    """What the search finds, published. One that was broken off is gone on with, unless it is to be done anew."""
    digest = search.key.digest
    if search.redo:
        shutil.rmtree(store.unfinished("searches", digest))
    folder = store.unfinished("searches", digest)
    found = searching.search(search.job, folder, on_progress)
    with store.publish("searches", search.key, replace=True) as publication:
        work.refuse_changed()
        publication.content = asdict(found)
    shutil.rmtree(folder)
    return found
