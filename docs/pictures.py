"""Takes the screenshots of the HTML report that docs/ shows: `python docs/pictures.py`.

The results are those of `docs/pictures/shop.ft.yaml`, kept in `docs/pictures/results.json` since training them takes
minutes: accepted by `pytest docs/pictures --ft-update` with twice the epochs and lower minima, then judged again.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

from playwright.sync_api import sync_playwright

from ftcheck.report import html, jsonfile

HERE = Path(__file__).parent


class Picture(NamedTuple):
    """A screenshot: which part of the page, how large in CSS pixels, and in which theme."""

    name: str
    width: int
    height: int
    scheme: str
    case: str = ""
    """The case that alone is open; empty: those that are."""
    top: str = "body"
    """What stands at the top."""


PICTURES = (
    Picture("light", 1240, 900, "light"),
    Picture("dark", 1240, 1000, "dark", case="intents", top="summary >> nth=0"),
    Picture("examples", 1240, 600, "light", case="names", top="h5 >> nth=1"),
    Picture("narrow", 420, 900, "light", case="facts", top="h4 >> nth=0"),
)


def main() -> None:
    browser_path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page = Path(folder) / "report.html"
        html.write(page, jsonfile.load(HERE / "pictures" / "results.json"))
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        for picture in PICTURES:
            target = HERE / f"report-{picture.name}.png"
            size = {"width": picture.width, "height": picture.height}
            shown = browser.new_page(viewport=size, color_scheme=picture.scheme, device_scale_factor=1.25)
            shown.goto(page.as_uri())
            if picture.case:
                shown.evaluate("document.querySelectorAll('.case > details').forEach((one) => { one.open = false; })")
                shown.click(f"#overview a:text-is('{picture.case}')")
                shown.evaluate("document.activeElement.blur()")
            top = f".case:has(> details[open]) {picture.top}" if picture.case else picture.top
            shown.locator(top).evaluate("(one) => { one.scrollIntoView(); scrollBy(0, -16); }")
            shown.screenshot(path=target)
            print(f"{target.name}: {target.stat().st_size // 1000} kB")
        browser.close()


if __name__ == "__main__":
    main()
