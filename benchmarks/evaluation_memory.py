"""What evaluation adds to a model's memory, task by task.

    python benchmarks/evaluation_memory.py [--rows 10000] [--long 64] [--vocabulary 150000] [--tasks fill-mask ...]

Each task runs in a process of its own: a tiny checkpoint with random weights (32 wide, but with so large a vocabulary,
or so many classes) trains one step, looks at a tenth of the rows as its tune rows, then predicts all of them. A row is
some words; those of `--long` are as long as the model takes. Prints, in MB of resident memory, the weights, what the
process held when the model was trained, and the peaks above that: looking at the tune rows, predicting, decoding.
Exits with 1 where one is above 1 GB, for tasks that keep no more of an example than a prediction (of a text's class
all probabilities are kept, which metrics need).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from measure import machine, run

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

MOST = 1_000_000_000
SEEN = ("evaluate", "predict", "decode")
"""The phases that evaluation has."""
WORDS = "the old cat sees a small red house"


@dataclass(frozen=True)
class Kind:
    """How a task is measured."""

    checkpoint: Callable[[Path, argparse.Namespace], Path]
    row: Callable[[int, str], dict[str, Any]]
    """(number, text) -> a row."""
    options: Mapping[str, Any] = field(default_factory=dict)
    longest: int = 500
    """Words of a long row."""
    keeps: bool = False
    """Whether what is kept of an example is more than a prediction, by what its metrics need."""


def gpt2(path: Path, options: argparse.Namespace) -> Path:
    from tests import tiny

    return tiny.gpt2(path, head="GPT2LMHeadModel", vocab_size=options.vocabulary, n_positions=1024)


def llama(path: Path, options: argparse.Namespace) -> Path:
    from tests import tiny

    return tiny.llama(path, head="LlamaForCausalLM", vocab_size=options.vocabulary, max_position_embeddings=1024)


def bert(path: Path, options: argparse.Namespace) -> Path:
    from tests import tiny

    return tiny.bert(path, head="BertForMaskedLM", vocab_size=options.vocabulary, max_position_embeddings=512)


def encoder(path: Path, options: argparse.Namespace) -> Path:
    from tests import tiny

    return tiny.bert(path, max_position_embeddings=512)


def t5(path: Path, options: argparse.Namespace) -> Path:
    from tests import tiny

    return tiny.t5(path, vocab_size=options.vocabulary)


def classified(number: int, text: str) -> dict[str, Any]:
    return {"text": text, "label": f"class {number % CLASSES}"}


def answered(number: int, text: str) -> dict[str, Any]:
    found = {"text": ["cat"], "answer_start": [text.index("cat")]}
    return {"id": str(number), "question": "who sees a house", "context": text, "answers": found}


CLASSES = 10_000
SHORT = {"generation": {"max_new_tokens": 2}}
KINDS: Mapping[str, Kind] = {
    "text-generation": Kind(gpt2, lambda number, text: {"text": text[:8] if text == WORDS else text}, longest=250),
    "text-generation, Llama": Kind(
        llama, lambda number, text: {"text": text[:8] if text == WORDS else text}, longest=250
    ),
    "fill-mask": Kind(bert, lambda number, text: {"text": text}),
    "summarization": Kind(
        t5, lambda number, text: {"document": WORDS, "summary": text[:1000]}, {**SHORT, "max_target_length": 128}
    ),
    "translation": Kind(
        t5, lambda number, text: {"source": WORDS, "target": text[:1000]}, {**SHORT, "max_target_length": 128}
    ),
    "text-classification": Kind(encoder, classified, keeps=True),
    "token-classification": Kind(
        encoder, lambda number, text: {"tokens": text.split(), "tags": ["O", *["B-A"] * (len(text.split()) - 1)]}
    ),
    "question-answering": Kind(encoder, answered),
}


def resident() -> int:
    """Bytes that this process has in memory now."""
    status = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in status if line.startswith("VmRSS:")).split()[1])


def rows(kind: Kind, options: argparse.Namespace) -> Any:
    """The rows as a table, a thousand at a time: what they take isn't what is measured."""
    import datasets

    whole = " ".join([WORDS] * (kind.longest // 8 + 1))

    def made() -> Any:
        for number in range(options.rows):
            yield kind.row(number, whole if number < options.long else WORDS)

    return datasets.Dataset.from_list(list(made()))


def child(name: str, options: argparse.Namespace) -> None:
    """Train a step, look at the tune rows, predict and score; print what was in memory."""
    from ftcheck.finetune.data import Loaded, RoleRows
    from ftcheck.finetune.session import FineTuning
    from tests.finetune.jobs import job

    kind = KINDS[name]
    judged = rows(kind, options)

    def role(name: str, dataset: Any) -> RoleRows:
        count = len(dataset)
        hashes = [f"{i:032x}" for i in range(count)]
        return RoleRows(dataset=dataset, index=range(count), place=str, hashes=hashes, digest=name)

    short = max(CLASSES if kind.keeps else 0, options.long + 8)
    train = judged.select(range(0 if kind.keeps else options.long, min(short, len(judged))))
    tune = judged.select(range(max(2 * options.long, len(judged) // 10)))
    with tempfile.TemporaryDirectory() as folder:
        made = job(
            name.partition(",")[0],
            kind.checkpoint(Path(folder) / "checkpoint", options),
            options=kind.options,
            training={
                "max_steps": 1,
                "per_device_train_batch_size": 1,
                "eval_strategy": "steps",
                "eval_steps": 1,
                "save_strategy": "no",
            },
        )
        given = {"train": train, "tune": tune, "eval": judged}
        loaded = Loaded(roles={name: role(name, rows) for name, rows in given.items()}, notes=())
        with FineTuning(made, loaded=loaded) as tuning:
            trained = tuning.train()
            parameters = sum(weight.nbytes for weight in tuning.model.parameters())
            before = resident()
            predicted = tuning.predict()
    assert trained.spent is not None
    assert predicted.spent is not None
    peaks = {f"{name} (training)": trained.spent.peak_bytes[name] for name in SEEN[:1] + SEEN[2:]}
    peaks |= {name: predicted.spent.peak_bytes[name] for name in SEEN[1:]}
    print(json.dumps({"parameters": parameters, "before": before, "peaks": peaks}))


def table(names: Sequence[str], options: argparse.Namespace) -> bool:
    """Print a line per task; whether all is as it was promised."""
    print("| task | weights | process with the model | while training: evaluate | decode | predict | decode |")
    print("|---|---|---|---|---|---|---|")
    kept = True
    given = [f"--{name}={getattr(options, name)}" for name in ("rows", "long", "vocabulary")]
    for name in names:
        sample = run([sys.executable, __file__, "--child", name, *given], env={"PYTHONPATH": str(ROOT)})
        found = json.loads(sample.output.splitlines()[-1])
        more = [peak - found["before"] for peak in found["peaks"].values()]
        kept = kept and (KINDS[name].keeps or max(more) <= MOST)
        cells = [found["parameters"], found["before"]]
        shown = " | ".join([*(f"{cell / 1e6:,.0f}" for cell in cells), *(f"{extra / 1e6:+,.0f}" for extra in more)])
        print(f"| {name} | {shown} |", flush=True)
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--long", type=int, default=16, help="rows that are as long as the model takes")
    parser.add_argument("--vocabulary", type=int, default=150_000)
    parser.add_argument("--child", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options)
        return
    print(f"{machine()}; {options.rows:,} rows, {options.long} of them long, {options.vocabulary:,} tokens; MB")
    sys.exit(0 if table(options.tasks, options) else 1)


if __name__ == "__main__":
    main()
