"""How sure a number is, whether a difference is one, and what a gate can decide.

Pure functions of example statistics (see `ftcheck.metrics`), NumPy only; docs/verdicts.md explains the method and how
it was tested.

- `totals`, `value`, `of_each`: what examples add up to, the metric of all of them, and of each
- `estimate`: one metric of one case, with an interval
- `compare`, `decide`, `decide_gain`: a candidate against its baseline
- `seed_noise`, `pooled`, `prior_sd`: how much seeds alone move a metric
- `plan`, `detectable`, `detectable_curve`, `provable`, `decided_by`: what a gate can decide, and what would
- `sequential_level`, `holm`: looking more than once
- `collapsed`: seeds that learned nothing
- `mcnemar`, `approximate_randomization`, `seed_permutation`, `paired_bootstrap`: for reports only
"""

from ftcheck.statistics.blocks import Aggregate, of_each, totals, value
from ftcheck.statistics.collapse import Collapse, clopper_pearson, collapsed
from ftcheck.statistics.comparison import PRIOR_FACTOR, Comparison, Noise, Relative, SeedSource, compare
from ftcheck.statistics.corrections import holm, sequential_level
from ftcheck.statistics.decisions import FEW_CLUSTERS, FEW_EXAMPLES, Decision, decide, decide_gain
from ftcheck.statistics.intervals import Estimate, Spread, estimate
from ftcheck.statistics.jackknife import example_df, half_width, influence
from ftcheck.statistics.power import Needed, Plan, decided_by, detectable, detectable_curve, plan, plan_again, provable
from ftcheck.statistics.seeds import SeedNoise, noise_of, pooled, prior_sd, seed_noise
from ftcheck.statistics.significance import (
    Bootstrap,
    approximate_randomization,
    mcnemar,
    paired_bootstrap,
    seed_permutation,
)

__all__ = [
    "FEW_CLUSTERS",
    "FEW_EXAMPLES",
    "PRIOR_FACTOR",
    "Aggregate",
    "Bootstrap",
    "Collapse",
    "Comparison",
    "Decision",
    "Estimate",
    "Needed",
    "Noise",
    "Plan",
    "Relative",
    "SeedNoise",
    "SeedSource",
    "Spread",
    "approximate_randomization",
    "clopper_pearson",
    "collapsed",
    "compare",
    "decide",
    "decide_gain",
    "decided_by",
    "detectable",
    "detectable_curve",
    "estimate",
    "example_df",
    "half_width",
    "holm",
    "influence",
    "mcnemar",
    "noise_of",
    "of_each",
    "paired_bootstrap",
    "plan",
    "plan_again",
    "pooled",
    "prior_sd",
    "provable",
    "seed_noise",
    "seed_permutation",
    "sequential_level",
    "totals",
    "value",
]
