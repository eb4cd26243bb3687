"""BLEU, chrF, chrF++ and TER as sacrebleu computes them (Post 2018), on its scale of 0 to 100.

Each sentence's sufficient statistics are sacrebleu's own; sums over sentences and the score that they determine are
NumPy here, so that leaving out each of n examples is one call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Literal

from ftcheck.errors import MetricError
from ftcheck.metrics import Context, Definition, counts
from ftcheck.metrics.texts import check

if TYPE_CHECKING:
    from ftcheck.metrics import FloatArray, Scale

BLEU_ORDER = 4
CHRF_BETA = 2

AT_ONCE = 100
"""Examples that sacrebleu is asked for: it holds the n-grams of all references that it is given."""

TOKENIZERS = ("13a", "none", "intl", "char", "zh", "ja-mecab", "ko-mecab", "flores101", "flores200")
_NEEDS = {
    "ja-mecab": "pip install 'sacrebleu[ja]'",
    "ko-mecab": "pip install 'sacrebleu[ko]'",
    "flores101": "pip install sentencepiece",
    "flores200": "pip install sentencepiece",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusScore:
    """One of sacrebleu's scores of a corpus."""

    name: str
    signature: str
    """sacrebleu's own, without the number of references, which is the data's."""
    scorer: Any
    """sacrebleu's metric."""
    value: Callable[[FloatArray], FloatArray]
    """Totals (..., k) -> (...)."""
    greater_is_better: bool
    scale: Scale = "unbounded"
    binary: bool = False

    def statistics(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> FloatArray:
        """(examples, k + 1): sacrebleu's k statistics of a sentence, then 1."""
        import numpy as np

        check(self.name, predictions, references)
        if not predictions:  # one of nothing tells how wide sacrebleu's statistics are
            return self._of([""], [[""]])[:0]
        starts = range(0, len(predictions), AT_ONCE)
        return np.concatenate(
            [self._of(predictions[at : at + AT_ONCE], references[at : at + AT_ONCE]) for at in starts]
        )

    def _of(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> FloatArray:
        import numpy as np

        # sacrebleu wants the first reference of every example, then the second, and so on; None where there is none.
        rows = self.scorer._extract_corpus_statistics(predictions, list(zip_longest(*references)))
        return np.column_stack([np.asarray(rows, dtype=np.float64), np.ones(len(rows))])

    def aggregate(self, totals: FloatArray) -> FloatArray:
        import numpy as np

        return np.where(totals[..., -1] > 0, self.value(totals[..., :-1]), np.nan)


def bleu(totals: FloatArray) -> FloatArray:
    """[predicted words, closest reference's, n-grams found for n = 1 to 4, n-grams predicted] (..., 10) -> BLEU (...).

    Papineni et al. 2002 with mteval-v13a's smoothing: the k-th order without any n-gram found counts as 1 / 2^k of one.
    0 without any word found, or (no effective order) without any 4-gram predicted.
    """
    import numpy as np

    predicted, reference = totals[..., 0], totals[..., 1]
    found, total = totals[..., 2 : 2 + BLEU_ORDER], totals[..., 2 + BLEU_ORDER :]
    smoothed = np.where(found > 0, found, 0.5 ** np.cumsum(found == 0, axis=-1))
    precisions = counts.ratio(100 * smoothed, total, empty=1.0)
    brevity = np.exp(np.minimum(0.0, 1 - counts.ratio(reference, predicted, empty=1.0)))
    score = brevity * np.exp(np.log(precisions).sum(axis=-1) / BLEU_ORDER)
    return np.where((found > 0).any(axis=-1) & (total > 0).all(axis=-1), score, 0.0)


def chrf(totals: FloatArray) -> FloatArray:
    """[n-grams predicted, in the reference, in both] for each order (..., 3 · orders) -> 100 · F2 (...).

    Precision and recall are averaged over the orders that both texts have (Popović 2015, 2017); 0 without any in both.
    """
    import numpy as np

    predicted, reference, both = (totals[..., start::3] for start in range(3))
    effective = (predicted > 0) & (reference > 0)
    orders = np.asarray(effective.sum(axis=-1), dtype=np.float64)
    precision, recall = (
        counts.ratio(np.where(effective, counts.ratio(both, of, empty=0.0), 0.0).sum(axis=-1), orders, empty=0.0)
        for of in (predicted, reference)
    )
    factor = CHRF_BETA**2
    return 100 * counts.ratio((1 + factor) * precision * recall, factor * precision + recall, empty=0.0)


def ter(totals: FloatArray) -> FloatArray:
    """[edits, mean reference words] (..., 2) -> 100 · edits / words (...); without reference words 100, or 0 without
    edits either (Snover et al. 2006)."""
    import numpy as np

    edits, words = totals[..., 0], totals[..., 1]
    return 100 * np.where(words > 0, counts.ratio(edits, words, empty=0.0), np.sign(edits))


def _bleu_scorer(known: Definition, argument: str | None) -> Any:
    from sacrebleu.metrics.bleu import BLEU

    tokenizer = argument or BLEU.TOKENIZER_DEFAULT
    if tokenizer.startswith("flores"):
        _need_model(known.name, tokenizer)
    try:
        # force: no advice to the terminal about texts that look tokenized.
        return BLEU(tokenize=tokenizer, force=True)
    except (ImportError, RuntimeError) as error:
        raise MetricError(f"{known.name}[{tokenizer}] needs a library: {_NEEDS[tokenizer]}") from error


def _need_model(name: str, tokenizer: str) -> None:
    """Raises MetricError where sacrebleu would download a model: scoring never reaches for the network."""
    from pathlib import Path

    from sacrebleu.tokenizers.tokenizer_spm import SPM_MODELS
    from sacrebleu.utils import SACREBLEU_DIR

    path = Path(SACREBLEU_DIR) / "models" / SPM_MODELS[tokenizer]["url"].rpartition("/")[2]
    if not path.exists():
        raise MetricError(
            f"{name}[{tokenizer}] needs the model {path}, which sacrebleu fetches: {_NEEDS[tokenizer]}, "
            f"then python -c \"from sacrebleu import BLEU; BLEU(tokenize='{tokenizer}')\""
        )


def _chrf_scorer(known: Definition, argument: str | None) -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF(word_order=2 if known.name == "chrf_pp" else 0, beta=CHRF_BETA)


def _ter_scorer(known: Definition, argument: str | None) -> Any:
    from sacrebleu.metrics.ter import TER

    return TER()


def _signature(scorer: Any) -> str:
    """sacrebleu's signature of a scorer: `case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0`."""
    scorer.num_refs = -1
    signature = scorer.get_signature()
    signature.update("nrefs", None)
    return str(signature)


def _definition(
    name: Literal["bleu", "chrf", "chrf_pp", "ter"],
    scorer: Callable[[Definition, str | None], Any],
    value: Callable[[FloatArray], FloatArray],
    summary: str,
    *,
    choices: tuple[str, ...] = (),
    greater_is_better: bool = True,
    bounds: tuple[float, float] = (0.0, 100.0),
) -> Definition:
    def make(known: Definition, argument: str | None, context: Context) -> CorpusScore:
        made = scorer(known, argument)
        return CorpusScore(
            name=known.name if argument is None else f"{known.name}[{argument}]",
            signature=f"{known.signature}|sacrebleu {_signature(made)}",
            scorer=made,
            value=value,
            greater_is_better=known.greater_is_better,
        )

    return Definition(
        name=name,
        input="text",
        summary=summary,
        make=make,
        takes_argument=bool(choices),
        choices=choices,
        greater_is_better=greater_is_better,
        bounds=bounds,
    )


METRICS = (
    _definition("bleu", _bleu_scorer, bleu, "n-grams found, of the corpus, with brevity penalty", choices=TOKENIZERS),
    _definition("chrf", _chrf_scorer, chrf, "F2 over n-grams of characters, of the corpus"),
    _definition("chrf_pp", _chrf_scorer, chrf, "chrF++: F2 over n-grams of characters and of words, of the corpus"),
    _definition(
        "ter",
        _ter_scorer,
        ter,
        "edits that make a prediction a reference, per 100 reference words",
        greater_is_better=False,
        bounds=(0.0, math.inf),
    ),
)
