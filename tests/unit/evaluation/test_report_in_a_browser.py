"""The report page in headless Chromium, where there is one: it opens quietly, is not blank, and fits a phone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_report import hostile, sample

from crossweave.evaluation.report import render_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PHONE, DESK = 390, 1280  # pixels

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")

# Reads the report from inside a frame of the wanted width: its own policy lets no script run, and should not.
READER = """<!doctype html><meta charset="utf-8"><body style="margin:0"><iframe id="page" src="report.html"
style="border:0;width:WIDTHpx;height:9000px"></iframe><pre id="found"></pre><script>
const frame = document.getElementById("page");
frame.onload = () => {
  const page = frame.contentDocument, root = page.documentElement;
  const found = {title: page.title, width: root.clientWidth, needed: root.scrollWidth, pictures: [], tips: []};
  for (const tip of page.querySelectorAll(".points li")) {
    tip.focus();
    const card = tip.querySelector(".tip"), box = card.getBoundingClientRect();
    found.tips.push([box.width > 0, box.left >= 0 && box.right <= root.clientWidth, card.textContent.trim()]);
    found.needed = Math.max(found.needed, root.scrollWidth);
  }
  for (const more of page.querySelectorAll("details")) more.open = true;
  found.needed = Math.max(found.needed, root.scrollWidth);
  for (const picture of page.images) found.pictures.push(picture.naturalWidth);
  document.getElementById("found").textContent = JSON.stringify(found);
};
</script>"""


def browse(folder: Path, address: str, *words: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", "--hide-scrollbars", *words, address,
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )  # fmt: skip
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done


def read_page(folder: Path, html: str, width: int) -> dict[str, Any]:
    """Open a page at a width; returns its title, the width it needs, its pictures' widths and the map's cards."""
    eager = html.replace(' loading="lazy"', "")  # so that the page has loaded when its pictures have
    (folder / "report.html").write_text(eager, encoding="utf-8")
    (folder / "reader.html").write_text(READER.replace("WIDTH", str(width)), encoding="utf-8")
    words = ("--allow-file-access-from-files", "--virtual-time-budget=20000", "--dump-dom", "--window-size=1400,9000")
    dom = browse(folder, (folder / "reader.html").as_uri(), *words).stdout
    found = re.search(r'<pre id="found">(.+?)</pre>', dom, re.DOTALL)
    assert found is not None, dom[:500]
    return json.loads(unescape(found.group(1)))


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_the_page_opens_without_console_errors_and_is_not_blank(scheme: str, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(render_report(hostile(sample())), encoding="utf-8")
    browse(
        tmp_path,
        (tmp_path / "report.html").as_uri(),
        f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}",
        "--window-size=1280,2400",
        f"--screenshot={tmp_path / 'page.png'}",
    )
    with Image.open(tmp_path / "page.png") as page:
        pixels = np.asarray(page.convert("RGB")).reshape(-1, 3)
    colours, counts = np.unique(pixels, axis=0, return_counts=True)
    ground = tuple(colours[counts.argmax()].tolist())
    assert ground == ((0x13, 0x16, 0x1B) if scheme == "dark" else (255, 255, 255))
    assert len(colours) > 500  # pictures, text and bars, not one flat colour
    assert counts.max() < 0.97 * counts.sum()


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_nothing_scrolls_sideways_pictures_load_and_the_map_answers(width: int, tmp_path: Path) -> None:
    found = read_page(tmp_path, render_report(sample()), width)
    assert found["width"] == width
    assert found["needed"] <= width  # with every fold open and every card of the map shown
    assert len(found["pictures"]) == 6 and all(pixels > 0 for pixels in found["pictures"])
    assert [words.split() for _, _, words in found["tips"]] == [
        ["Corner", "Shopdrama"],
        ["No", "Category"],
        ["Far", "Endcomedy"],
    ]
    assert all(shown and inside for shown, inside, _ in found["tips"])


def test_a_title_that_is_a_script_stays_text_and_breaks_no_width(tmp_path: Path) -> None:
    found = read_page(tmp_path, render_report(hostile(sample())), PHONE)
    assert found["title"].startswith("<script>document.title='owned'")
    assert found["needed"] <= PHONE
