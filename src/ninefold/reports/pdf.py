"""Print the rendered pages as one PDF, by a Chromium that is on this machine."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from ninefold import artifacts
from ninefold.errors import NinefoldError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")
LINK = re.compile(r'href="(?:\.\./)?(?:own/)?([^"/#:]+)\.html#?([^"]*)"')


def write() -> Path:
    """Write ``reports/report.pdf``, the index and all pages, and return its path; `NinefoldError` without a browser."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise NinefoldError(f"ninefold site --pdf: found no {', '.join(BROWSERS)} on the PATH; install Chromium")
    reports = artifacts.path("reports")
    places = [reports / "index.html", *sorted(reports.rglob("0*.html"), key=lambda place: place.name)]
    sheets = "".join(map(_sheet, [*places, *reports.glob("model_card.html")]))
    head = places[0].read_text(encoding="utf-8").partition("<body>")[0]
    with tempfile.TemporaryDirectory() as folder:
        page, printed = Path(folder) / "report.html", Path(folder) / "report.pdf"
        page.write_text(f"{head}<body>{sheets}</body></html>", encoding="utf-8")
        options = ["--headless", "--disable-gpu", "--no-pdf-header-footer", f"--user-data-dir={folder}/profile"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            options.append("--no-sandbox")  # Chromium has none for root
        command = [browser, *options, f"--print-to-pdf={printed}", page.as_uri()]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if not printed.exists():
            raise NinefoldError(f"{browser}: wrote no PDF, exit code {done.returncode}: {done.stderr.strip()}")
        return Path(shutil.copy(printed, reports / "report.pdf"))


def _sheet(place: Path) -> str:
    """Return the main part of a page, whose ids begin with the page's name, and whose links lead to other sheets."""
    main = place.read_text(encoding="utf-8").partition("<main")[2].partition("</main>")[0].partition(">")[2]
    main = re.sub(r'(\b(?:id|aria-labelledby)="|href="#)', rf"\g<1>{place.stem}-", main)
    main = LINK.sub(r'href="#\1-\2"', main)
    return f'<section class="sheet wrap" id="{place.stem}-">{main}</section>'
