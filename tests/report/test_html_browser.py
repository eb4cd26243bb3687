"""The page as its readers have it: in a browser, with a keyboard, narrow, dark, printed, with hostile text in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ftcheck.report import html
from ftcheck.report.jsonfile import Document
from ftcheck.results import CaseResult, Flip, Mark, Marked, Reference, Verdict
from tests.report import hostile, results
from tests.report.charts.test_figures import breakdown

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (ftcheck[dev])")

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=f"no browser on PATH: {', '.join(NAMES)}")
OPTIONS = (
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)
WIDTHS = (400, 800, 1400)
Page = Any


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser for all tests."""
    with playwright.sync_playwright() as running:
        launched = running.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))
        yield launched
        launched.close()


class Opened:
    """A page in the browser, and what it did that it shouldn't."""

    def __init__(self, browser: Any, path: Path, **context: Any) -> None:
        self.context = browser.new_context(**context)
        self.page: Page = self.context.new_page()
        self.trouble: list[str] = []
        self.page.on("console", lambda message: self.trouble.append(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self.trouble.append(f"error: {error}"))
        self.page.on("dialog", self._dialog)
        self.page.on("popup", lambda _: self.trouble.append("popup"))
        self.page.on("download", lambda _: self.trouble.append("download"))
        self.page.on("request", self._request)
        self.url = path.as_uri()
        self.page.goto(self.url)

    def _dialog(self, dialog: Any) -> None:
        self.trouble.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _request(self, request: Any) -> None:
        if request.url.partition("#")[0] != self.url:
            self.trouble.append(f"request: {request.url}")

    def open_all(self) -> None:
        self.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")


def entities(text: str) -> Flip:
    marked = Marked(
        text=text,
        marks=(
            *(Mark(start=6 * n, end=6 * n + 5, role="gold", label=f"T{n}") for n in range(6)),
            Mark(start=0, end=5, role="predicted", label="T1"),
        ),
    )
    return Flip(id="7", input=text, gold="a/T0", before="right", after="b/T1", change=-1.0, marked=marked)


def answer(text: str) -> Flip:
    marks = tuple(
        Mark(start=start, end=end, role=role)  # type: ignore[arg-type]
        for start, end, role in ((0, 11, "gold"), (6, 17, "predicted"))
    )
    return Flip(
        id="8",
        input="who?",
        gold="one two",
        before="one",
        after="one x",
        change=-1.0,
        marked=Marked(text=text, marks=marks),
    )


VERDICTS: tuple[Verdict, ...] = ("pass", "fail", "error", "inconclusive", "new", "incomparable", "smoke", "skipped")


def cases() -> list[CaseResult]:
    """One for each verdict, with all that a page can have."""
    text = "alpha bravo charl delta echos foxtr golfs"
    other = Reference(
        against="baseline",
        described="cpu, accepted by Ada",
        examples=400,
        common=400,
        changes=("learning_rate 2e-5 → 5e-5",),
        broken=12,
        fixed=3,
        flips=(entities(text), answer(text)),
        trace="the training differs from step 1 on",
    )
    return [
        results.case(
            verdict=verdict,
            case_id=f"case-{place}",
            nodeid=f"suites/a.ft.yaml::case-{place}",
            task="question-answering" if place % 2 else "text-classification",
            error="no such file\nat all" if verdict == "error" else "",
            references=(other,),
            metrics=(results.metric(value=0.9 - place / 100), results.metric("macro_f1", 0.8)),
            notes=("cut at 64 tokens",),
            runs=(replace(results.run(), environment={"python": "3.11", "torch": "2.13"}),),
            examples=400 - place,
            breakdown=breakdown(("lost", "stolen")),
        )
        for place, verdict in enumerate(VERDICTS)
    ]


def written(folder: Path, name: str, found: list[CaseResult], *, complete: bool = True) -> Path:
    path = folder / f"{name}.html"
    html.write(
        path,
        Document(results=found, complete=complete, missing=(), created="2026-11-02T10:00:00+00:00", version="0.1.0"),
    )
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("pages"), "all", cases(), complete=False)


@pytest.fixture(scope="module")
def hostile_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("pages"), "hostile", hostile.every())


@pytest.fixture
def opened(browser: Any, path: Path) -> Iterator[Opened]:
    """The page with a case of each verdict; nothing that it did may be trouble."""
    found = Opened(browser, path, viewport={"width": 1280, "height": 900})
    yield found
    assert found.trouble == []
    found.context.close()


@pytest.fixture(scope="module")
def attacked(browser: Any, hostile_path: Path) -> Iterator[Opened]:
    found = Opened(browser, hostile_path, viewport={"width": 1400, "height": 900})
    found.open_all()
    yield found
    found.context.close()


def shown(page: Page) -> list[str]:
    """The ids of the cases in the overview, as they stand."""
    return list(page.eval_on_selector_all("#overview tbody tr:not([hidden]) a", "all => all.map(a => a.textContent)"))


def test_nothing_in_hostile_text_runs(attacked: Opened) -> None:
    page = attacked.page
    page.mouse.wheel(0, 100_000)
    page.fill("#text", "<script>")
    page.fill("#text", "")
    for place in (1, 2):
        page.click(f"#overview thead button >> nth={place}")
    page.evaluate("dispatchEvent(new Event('beforeprint')); dispatchEvent(new Event('afterprint'))")
    page.wait_for_timeout(200)
    assert page.evaluate("window.pwned") is None
    assert attacked.trouble == []
    assert page.url.partition("#")[0] == attacked.url
    assert page.evaluate("document.scripts.length") == 1
    assert page.evaluate("document.styleSheets.length") == 1
    assert "1337" not in page.inner_text("body"), "no template syntax is evaluated"


def test_hostile_text_is_shown_as_it_is(attacked: Opened) -> None:
    names = attacked.page.eval_on_selector_all("h3", "all => all.map(one => one.textContent)")
    for name, text in hostile.STRINGS.items():
        if text.isprintable() and len(text) < 500:
            assert any(text in found for found in names), name
    assert any("\\u202egnp.exe" in found for found in names)
    assert any("lone \\ud800 and \\udfff" in found for found in names)


@pytest.mark.parametrize("width", WIDTHS)
def test_hostile_text_does_not_break_the_layout(attacked: Opened, width: int) -> None:
    attacked.page.set_viewport_size({"width": width, "height": 900})
    assert _overflow(attacked.page) == []


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_is_as_wide_as_the_window(opened: Opened, width: int) -> None:
    opened.page.set_viewport_size({"width": width, "height": 900})
    opened.open_all()
    assert _overflow(opened.page) == []


def _overflow(page: Page) -> list[str]:
    """What is wider than the window, outside of what scrolls by itself."""
    found: list[str] = page.evaluate(
        """() => {
            document.querySelectorAll('.case').forEach((one) => { one.style.contentVisibility = 'visible'; });
            const wide = document.documentElement.scrollWidth > innerWidth ? ['document'] : [];
            for (const one of document.querySelectorAll('body *')) {
                if (one.closest('.scroll') && !one.matches('.scroll')) continue;
                if (one.closest('.unseen, .skip')) continue;
                const box = one.getBoundingClientRect();
                if (box.right > innerWidth + 1 || box.left < -1) {
                    wide.push(`${one.tagName}.${one.className}: ${box.left} to ${box.right}`);
                }
            }
            return wide.slice(0, 5);
        }"""
    )
    return found


def test_were_there_markup_of_others_it_would_not_run(browser: Any, path: Path) -> None:
    """The policy holds where escaping wouldn't."""
    found = Opened(browser, path)
    found.page.evaluate(
        """() => {
            document.body.insertAdjacentHTML('beforeend', '<img src=x onerror="window.pwned=1">');
            document.body.insertAdjacentHTML('beforeend', '<iframe srcdoc="<script>parent.pwned=1</script>"></iframe>');
            const script = document.createElement('script');
            script.textContent = 'window.pwned = 1';
            document.body.append(script);
            document.body.setAttribute('onclick', 'window.pwned = 1');
            document.body.click();
        }"""
    )
    found.page.wait_for_timeout(200)
    assert found.page.evaluate("window.pwned") is None
    assert len([told for told in found.trouble if "Content Security Policy" in told]) >= 3
    assert not [told for told in found.trouble if told.startswith("request: http")]
    found.context.close()


def test_the_filters_show_the_cases_they_say(opened: Opened) -> None:
    page = opened.page
    assert page.inner_text("#found") == "8 cases"
    page.check("[name=verdict][value=fail]")
    page.check("[name=verdict][value=pass]")
    assert shown(page) == ["case-1", "case-0"]
    assert page.inner_text("#found") == "2 of 8 cases"
    assert page.locator(".case:visible").count() == 2
    page.select_option("#task", "question-answering")
    assert shown(page) == ["case-1"]
    page.click("text=Clear")
    assert page.inner_text("#found") == "8 cases"
    page.fill("#text", "CASE-3")
    assert shown(page) == ["case-3"]
    page.fill("#text", "no such case")
    assert shown(page) == []
    assert page.inner_text("#found") == "0 of 8 cases"


def test_columns_are_sorted_up_and_down(opened: Opened) -> None:
    page = opened.page
    header = page.locator("#overview th[aria-sort]", has_text="value")
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    assert shown(page) == [f"case-{place}" for place in reversed(range(8))]
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    assert shown(page) == [f"case-{place}" for place in range(8)]
    page.locator("#overview th button", has_text="case").click()
    assert page.locator("#overview th:not([aria-sort=none])[aria-sort]").count() == 1
    page.locator("#overview th button", has_text="verdict").click()
    assert shown(page)[0] == "case-2", "errors are worst"


def test_the_theme_can_be_chosen_and_is_kept(browser: Any, path: Path) -> None:
    found = Opened(browser, path, color_scheme="light")
    background = "getComputedStyle(document.body).backgroundColor"
    light = found.page.evaluate(background)
    for expected in ("Theme: light", "Theme: dark"):
        found.page.click("#theme")
        assert found.page.inner_text("#theme") == expected
    assert found.page.evaluate(background) != light
    found.page.reload()
    assert found.page.inner_text("#theme") == "Theme: dark"
    found.page.click("#theme")
    assert found.page.evaluate(background) == light
    found.page.emulate_media(color_scheme="dark")
    assert found.page.evaluate(background) != light
    assert found.trouble == []
    found.context.close()


def test_it_is_used_with_the_keyboard_alone(opened: Opened) -> None:
    page = opened.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the results"
    assert page.evaluate("document.activeElement.getBoundingClientRect().top >= 0"), "it is seen"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.locator("#overview th button", has_text="case").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Space")
    assert page.get_attribute("#overview th:nth-child(2)", "aria-sort") == "descending"
    page.keyboard.press("Tab")
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid", "what has the focus is marked"
    page.locator("#overview a", has_text="case-0").focus()
    page.keyboard.press("Enter")
    page.wait_for_function("document.activeElement.tagName === 'SUMMARY'")
    assert page.evaluate("document.activeElement.parentElement.open")
    page.keyboard.press("Enter")
    assert not page.evaluate("document.activeElement.parentElement.open")


def test_all_can_be_opened_and_closed(opened: Opened) -> None:
    page = opened.page
    page.click("#unfold")
    assert page.locator(".case > details[open]").count() == 8
    assert page.get_attribute("#unfold", "aria-pressed") == "true"
    page.click("#unfold")
    assert page.locator(".case > details[open]").count() == 0


def test_a_link_to_a_case_opens_it(browser: Any, path: Path) -> None:
    found = Opened(browser, path)
    found.page.goto(f"{found.url}#case-8")
    found.page.reload()
    assert found.page.locator("#case-8 > details[open]").count() == 1
    found.context.close()


def test_without_scripts_all_is_there(browser: Any, path: Path) -> None:
    found = Opened(browser, path, java_script_enabled=False)
    assert found.page.locator("#filters").is_hidden()
    assert found.page.locator("#theme").is_hidden()
    assert found.page.locator("#overview tbody tr").count() == 8
    found.page.click("#case-8 summary >> nth=0")
    assert found.page.locator("#case-8 h4", has_text="Reproduce").is_visible()
    found.context.close()


def test_paper_has_everything_and_no_controls(opened: Opened) -> None:
    page = opened.page
    page.emulate_media(media="print", color_scheme="dark")
    assert page.locator("#filters").is_hidden()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator(".case > details:not([open])").count() == 0
    assert page.locator("#case-8 h4", has_text="Reproduce").is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator(".case > details[open]").count() == 3


ACCESSIBLE = """() => {
    const faults = [];
    const all = (selector) => [...document.querySelectorAll(selector)];
    const labels = (one) => (one.getAttribute('aria-labelledby') || '').split(' ');
    const named = (one) => (one.getAttribute('aria-label') || one.textContent || '').trim()
        || labels(one).some((id) => document.getElementById(id)?.textContent);
    if (document.documentElement.lang !== 'en' || !document.title) faults.push('language or title');
    const ids = all('[id]').map((one) => one.id);
    if (new Set(ids).size !== ids.length) faults.push('an id twice');
    for (const name of ['main', 'body > header', 'h1', 'body > footer']) {
        if (all(name).length !== 1) faults.push(`${all(name).length} of ${name}`);
    }
    let level = 0;
    for (const heading of all('h1, h2, h3, h4, h5')) {
        const next = Number(heading.tagName[1]);
        if (next > level + 1) faults.push(`${heading.textContent}: h${next} after h${level}`);
        level = next;
    }
    for (const one of all('input, select, textarea')) if (!one.labels.length) faults.push(`no label: ${one.id}`);
    for (const one of all('button, a, summary, section, article, form, [role=region]')) {
        if (!named(one)) faults.push(`no name: ${one.outerHTML.slice(0, 80)}`);
    }
    for (const one of all('table')) if (!one.caption) faults.push('a table without a caption');
    for (const one of all('th')) if (!one.scope) faults.push(`no scope: ${one.textContent}`);
    for (const one of all('svg')) if (one.getAttribute('role') !== 'img') faults.push('an svg that is no image');
    for (const one of all('[aria-labelledby]')) {
        for (const id of labels(one)) if (!document.getElementById(id)) faults.push(`no ${id}`);
    }
    for (const one of all('.scroll, pre')) if (one.tabIndex !== 0) faults.push('scrolls, but not by keyboard');
    return faults;
}"""


def test_it_is_accessible(opened: Opened) -> None:
    opened.open_all()
    assert opened.page.evaluate(ACCESSIBLE) == []


CONTRAST = """() => {
    const parsed = (color) => {
        const [r, g, b, a = 1] = color.match(/[\\d.]+/g).map(Number);
        return [r, g, b, a];
    };
    const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
        .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, place) => sum + c * [0.2126, 0.7152, 0.0722][place], 0);
    const over = (top, under) => top.slice(0, 3).map((c, place) => c * top[3] + under[place] * (1 - top[3]));
    const behind = (one) => {
        const layers = [];
        for (; one; one = one.parentElement) layers.unshift(parsed(getComputedStyle(one).backgroundColor));
        return layers.reduce((under, top) => over(top, under), [255, 255, 255]);
    };
    const faults = new Set();
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    let checked = 0;
    while (texts.nextNode()) {
        const one = texts.currentNode.parentElement;
        if (!texts.currentNode.data.trim() || !one.getClientRects().length) continue;
        if (one.closest('.unseen, script, title, desc, .fp')) continue; // fp: on areas of charts
        const style = getComputedStyle(one);
        const back = behind(one);
        const [r, g, b, a] = parsed(one.tagName === 'text' ? style.fill : style.color);
        const front = over([r, g, b, a * style.opacity], back);
        const [more, less] = [light(front), light(back)].sort((x, y) => y - x);
        const ratio = (more + 0.05) / (less + 0.05);
        checked += 1;
        if (ratio < 4.5) faults.add(`${one.tagName}.${one.className} ${ratio.toFixed(2)} ${style.color} on ${back}`);
    }
    return [checked, [...faults]];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_enough_contrast(browser: Any, path: Path, scheme: str) -> None:
    """At least 4.5 to 1 (WCAG 2.2, AA), also for large text."""
    found = Opened(browser, path, color_scheme=scheme)
    found.open_all()
    checked, faults = found.page.evaluate(CONTRAST)
    assert faults == []
    assert checked > 300
    found.context.close()


def test_one_case_has_nothing_to_filter(browser: Any, tmp_path: Path) -> None:
    found = Opened(browser, written(tmp_path, "one", [results.case(verdict="pass")]))
    assert found.page.locator("form").count() == 0
    assert found.page.locator(".case > details[open]").count() == 1
    found.page.locator("#overview th button", has_text="case").click()
    assert found.trouble == []
    found.context.close()
