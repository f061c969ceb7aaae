"""The site: it builds without a warning, no link of it is dead, and a page asks nothing of a network."""
import os
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("myst_nb", reason="the site is built with: pip install -e '.[site]'")
ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page(HTMLParser):
    """The anchors of a page, where its links lead, and what it loads."""

    def __init__(self, file):
        super().__init__()
        self.anchors, self.links, self.loads = {""}, [], []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors |= {attributes.get("id"), attributes.get("name")}
        if tag == "a" and "href" in attributes:
            self.links.append(attributes["href"])
        elif tag == "link" and attributes.get("rel") not in ("index", "search", "next", "prev", "canonical"):
            self.loads.append(attributes["href"])
        elif "src" in attributes:
            self.loads.append(attributes["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "dist"
    done = subprocess.run([sys.executable, "site/build.py", "--output", folder], cwd=ROOT, text=True,
                          capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr  # a warning of Sphinx is an error
    return folder


@pytest.fixture(scope="module")
def pages(site):
    return {file: Page(file) for file in site.rglob("*.html")}


def test_it_has_all_notebooks_and_is_small(site):
    for name in NOTEBOOKS:
        text = (site / "notebooks" / f"{name}.html").read_text()
        exercises = (ROOT / "notebooks" / "solutions" / f"{name}.ipynb").read_text().count("solved = exercises.check_")
        assert text.count("sd-summary-text") >= max(exercises, 3) and "colab.research.google.com" in text, name
    assert sum(file.stat().st_size for file in site.rglob("*") if file.is_file()) < 30e6


def test_what_is_downloaded_is_the_notebook_itself(site):
    downloads = {file.name: file.read_bytes() for file in (site / "_downloads").rglob("*.ipynb")}
    for name in NOTEBOOKS:
        versions = {(ROOT / "notebooks" / folder / f"{name}.ipynb").read_bytes() for folder in ("", "solutions")}
        assert downloads[f"{name}.ipynb"] in versions


def test_links_lead_somewhere(site, pages):
    dead = []
    for file, page in pages.items():
        for target in page.links + page.loads:
            parts = urlsplit(target)
            if parts.scheme:
                continue
            there = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            found = there.is_file() and (there not in pages or unquote(parts.fragment) in pages[there].anchors
                                         or there.name == "explorer.html")  # its fragments are its state
            if not found:
                dead.append(f"{file.relative_to(site)}: {target}")
    assert not dead


def test_no_page_loads_anything_from_elsewhere(site, pages):
    outside = {(str(file.relative_to(site)), target) for file, page in pages.items() for target in page.loads
               if urlsplit(target).scheme not in ("", "data") or target.startswith("//")}
    assert not outside


@pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium here: install chromium or google-chrome")
def test_in_a_browser(site):
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install -e '.[browser]'")
    troubles = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.on("request", lambda request: None if request.url.startswith(("file:", "data:", "blob:"))
                else troubles.append(request.url))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
        for name in ("index", "notebooks/04_multihead_self_attention", "results"):
            page.goto(f"file://{site}/{name}.html")
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, f"{name} is wider than a phone"
        page.goto(f"file://{site}/notebooks/04_multihead_self_attention.html")
        page.wait_for_selector("mjx-container svg")  # formulas are rendered
        page.click("#vit-attention .asks")  # the interactive figure answers
        assert "the class token takes most" in page.text_content("#vit-attention [aria-live]")
        # A notebook that was worked through is marked, here and in the list, also after a reload.
        page.check(".done input")
        page.reload()
        assert page.is_checked(".done input")
        assert page.locator(".sidebar-tree a.is-done").first.text_content().startswith("04")
        browser.close()
    assert not troubles
