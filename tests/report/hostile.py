"""Text that wants to be more than text, and results that have it wherever data, suites or libraries can put text."""

from __future__ import annotations

from ftcheck.results import (
    CaseResult,
    ComparisonResult,
    Confusion,
    Flip,
    GateResult,
    Mark,
    Marked,
    Reference,
    RunResult,
    StageOrigin,
    WorstExample,
)
from tests.report import results
from tests.report.charts.test_figures import breakdown

RUN = "window.pwned=1"
"""What must not be run."""

STRINGS: dict[str, str] = {
    "script": f"<script>{RUN}</script>",
    "image": f'<img src=x onerror="{RUN}">',
    "svg": f"<svg onload={RUN}><a xlink:href=javascript:{RUN}>x</a></svg>",
    "double-quote": f'"><script>{RUN}</script><p class="',
    "single-quote": f"' onmouseover='{RUN}' autofocus onfocus='{RUN}",
    "backquote": f"` onclick=`{RUN}`",
    "end-of-script": f"</script><script>{RUN}</script>",
    "end-of-style": f"</style><script>{RUN}</script>",
    "end-of-comment": f"--><script>{RUN}</script><!--",
    "end-of-title": f"</title></textarea></pre></noscript><script>{RUN}</script>",
    "end-of-parts": "</details></article></section></main></td></tr></table>",
    "comment": "<!-- <!--> ]]> <![CDATA[ x",
    "javascript-url": f"javascript:{RUN}",
    "data-url": f"data:text/html,<script>{RUN}</script>",
    "link": f'<a href="javascript:{RUN}">x</a>[x](javascript:{RUN})',
    "frame": f'<iframe srcdoc="<script>parent.{RUN}</script>"></iframe><object data=x></object><embed src=x>',
    "base": '<base href="https://evil.example/"><link rel=stylesheet href=https://evil.example/x.css>',
    "refresh": '<meta http-equiv="refresh" content="0;url=https://evil.example/">',
    "form": f"<form action=https://evil.example><button formaction=javascript:{RUN}>x</button></form>",
    "style": "}*{display:none!important}body{background:url(https://evil.example/x)}/*",
    "style-attribute": '" style="position:fixed;inset:0;background:url(https://evil.example/x)',
    "template": "{{ 7 * 191 }}{% for x in y %}{{ report.__class__.__mro__ }}{% endfor %}{# gone #}",
    "other-templates": "${7*191} <%= 7*191 %> #{7*191} [[constructor.constructor('window.pwned=1')()]]",
    "entities": "&lt;script&gt; &#x202e; &amp; &quot; &nbsp;",
    "control": "a\x00b\x07c\x1b[31md\x7fe\x85f\ufeffg",
    "line-ends": "a\r\nb\rc\u2028d\u2029e\vf\fg",
    "bidirectional": "\u202egnp.exe \u2066\u2067x\u2069 \u061c\u200f",
    "zero-width": "pa\u200by\u200cm\u200de\u2060n\ufefft\u00ad",
    "workflow-commands": "::error file=a::x ::set-output name=a::b ##[error]c ##vso[task.setvariable variable=a]d",
    "surrogate": "lone \ud800 and \udfff",
    "right-to-left": "مرحبا بالعالم שלום",
    "combining": "Z" + "\u0310\u0327\u0489" * 200,
    "wide": "漢字" * 300,
    "one-word": "A" * 5_000,
    "many-lines": "\n" * 3_000 + "end",
    "megabyte": "<b>" + "x" * 1_000_000,
    "megabyte-of-words": "<i>a </i>" * 120_000,
}


def case(text: str, place: int) -> CaseResult:
    """A failed case with `text` wherever there can be text."""
    end = min(len(text), 9)
    marks = (
        Mark(start=0, end=end, role="gold", label=text),
        Mark(start=2, end=end, role="predicted", label=text[:50]),
    )
    unlabelled = tuple(Mark(start=mark.start, end=mark.end, role=mark.role) for mark in marks)
    flips = tuple(
        Flip(id=text, input=text, gold=text, before=text, after=f"{text} x", change=-1.0, marked=marked)
        for marked in (None, Marked(text=text, marks=marks), Marked(text=text, marks=unlabelled))
    )
    return results.case(
        suite=text,
        case_id=text,
        nodeid=f"{text}{place}",
        task=text,
        checkpoint=text,
        verdict="fail",
        device=text,
        precision=text,
        metrics=(results.metric(text, no_interval=text, half=None), results.metric(f"{text}2")),
        gates=(_gate(text),),
        runs=(
            RunResult(
                seed=42,
                train=StageOrigin(source="computed", key=text, seconds=1.0),
                predict=StageOrigin(source="store", key=text, seconds=1.0),
                costs={text: 1.0},
                warnings=(text,),
                environment={text[:100]: text[:500]},
            ),
        ),
        error=text if place % 2 else "",
        notes=(text,),
        update=text,
        references=(
            Reference(
                against=text, described=text, examples=9, common=9, changes=(text,), broken=1, flips=flips, trace=text
            ),
        ),
        confusions=(Confusion(gold=text, predicted=text, count=3),),
        worst=(
            WorstExample(index=1, input=text, gold=text, predicted=text[::-1], score=float("nan")),
            WorstExample(index=2, input=text, gold=text, predicted=f"{text} x", marked=flips[2].marked),
        ),
        breakdown=breakdown((text, text[::-1])),
    )


def _gate(text: str) -> GateResult:
    return GateResult(
        metric=text,
        bound="max_regression",
        limit=float("inf"),
        value=0.5,
        verdict="fail",
        message=text,
        shown_limit=text,
        part=text,
        comparison=ComparisonResult(
            against=text,
            reference=0.9,
            value=0.5,
            difference=0.4,
            low=float("nan"),
            high=0.5,
            confidence=0.95,
            p_value=0.0,
            p_worse=0.0,
            examples=9,
            runs=1,
            reference_runs=1,
            discordant=3,
            seed_source=text,
        ),
    )


def every() -> list[CaseResult]:
    """A case for each of STRINGS."""
    return [case(text, place) for place, text in enumerate(STRINGS.values())]
