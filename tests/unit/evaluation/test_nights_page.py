"""The page of nights: what records say is shown, whoever wrote them, on a phone and in the dark too."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_report_in_a_browser import CHROMIUM, DESK, PHONE, browse, read_page

from crossweave.evaluation.night_facts import Figure, Night, ServedRow, night_of
from crossweave.evaluation.nights_page import OPEN, render_nights
from crossweave.evaluation.small_curves import DOTS, HEIGHT, columns, curve

HOSTILE = "<script>document.title='owned'</script>\"'><img src=x onerror=alert(1)>" + "é" * 200

RECORD: dict[str, Any] = {
    "schema": 1,
    "run_id": "20260103T020000-pipeline-abcdef",
    "job": "pipeline",
    "date": "2026-01-03",
    "status": "ok",
    "exit_code": 0,
    "stages": [
        {"name": "ingest", "seconds": 2.5, "rows_in": 1200, "rows_out": 1190, "quarantined": {"null_id": 10}},
        {
            "name": "evaluate",
            "seconds": 7.5,
            "rows_in": 40,
            "rows_out": 40,
            "quarantined": {},
            "warnings": ["drift: share of items added is 0.3"],
            "facts": {"headline": [{"name": "ndcg@20", "value": 0.31, "low": 0.3, "high": 0.32}]},
        },
    ],
    "metrics": {"evaluate.drift.items_added": 0.3, "evaluate.ndcg@20": 0.31},
    "error": None,
}
REFUSED = {"type": "PromotionRefusedError", "message": "evaluate.gate refused the new model"}


def night(number: int = 0, **changes: Any) -> Night:
    return night_of(f"202601{number % 28 + 1:02}T020000-pipeline-{number:06}", json.dumps(RECORD | changes))


def sample(count: int = 8) -> str:
    nights = [night(number, date=f"2026-01-{number % 28 + 1:02}") for number in range(count)]
    nights[0] = replace(nights[0], figures=[Figure("ndcg@20", 0.2, 0.19, 0.21), Figure("coverage@20", 0.5)])
    nights[1] = night(1, status="failed", exit_code=4, error=REFUSED)
    nights[2] = night(2, status="noop", stages=[])
    nights.reverse()
    return render_nights(nights, served())


def served() -> list[ServedRow]:
    figure = Figure("ndcg@20", 0.31, 0.3, 0.32)
    return [
        ServedRow("2026-01-03 02:10:00", "run-b", "2026-01-03", "rollback by command, run-c", "now", 7, "m1", figure),
        ServedRow("2026-01-02 02:10:00", "run-a", "2026-01-02", "passed the gate", "before", 6, "m0", None),
        ServedRow("2026-01-01 02:10:00", "run-r", "2026-01-01", "it is worse", "refused"),
    ]


def test_a_record_becomes_what_the_page_shows_of_a_night() -> None:
    found = night()
    assert (found.started, found.seconds, found.quarantined) == ("2026-01-01 02:00:00", 10.0, 10)
    assert found.figures == [Figure("ndcg@20", 0.31, 0.3, 0.32)]
    assert found.drift == {"items_added": 0.3}
    assert found.warnings == ["drift: share of items added is 0.3"]
    assert not found.refused
    assert night(status="failed", error=REFUSED).refused


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", "3", '"x"', "{}", "[" * 100_000, "\udce9".encode("utf-8", "surrogatepass"),
        json.dumps(dict.fromkeys(RECORD, 5)), json.dumps({key: [[{}]] for key in RECORD}),
        json.dumps({"stages": [None, {"seconds": "x", "rows_in": True, "quarantined": [1], "facts": {"headline": 1}}]}),
        json.dumps({"stages": [{"seconds": -1, "facts": {"headline": [{"name": "a"}, {"value": 1}, 0]}}]}),
        '{"status": "ok", "exit_code": 1e999, "metrics": {"evaluate.drift.x": NaN, "evaluate.drift.y": 1e300}}',
    ],
)  # fmt: skip
def test_a_record_that_is_none_is_a_night_all_the_same(text: str | bytes) -> None:
    found = night_of("20260101T000000-x", text)
    assert found.run_id == "20260101T000000-x"
    assert found.seconds == 0 and not found.figures and not found.drift
    assert "20260101T000000-x" in render_nights([found], [])


def test_the_page_shows_every_night_its_cost_rows_figures_and_what_is_served() -> None:
    page = sample()
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    assert "Served now: the run of 2026-01-03 , run-b , recommendations version 7, model m1" in text
    assert "NDCG@20 0.3100 (0.3000 to 0.3200)" in text
    assert "Drift: items added" in text and "refused by the gate" in text and "nothing to do" in text
    assert "last 0.3100 (0.3000 to 0.3200) , lowest 0.2000, highest 0.3100" in text
    assert "2026-01-08 pipeline ok 2026-01-08 02:00:00 UTC" in text
    assert "PromotionRefusedError evaluate.gate refused the new model" in text
    assert "ingest 2.5 s 1 200 1 190 10 null_id 10" in text
    assert "at most 10 in a night" in text and "the longest night took 10 s" in text
    assert page.count("run_result.json") == 8 + 3 and page.count("report.html") == 7  # one night judged nothing
    assert 'href="20260108T020000-pipeline-000007/report.html"' in page
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")
    assert render_nights([], []).count("<p>No ") == 4
    assert "Nothing is served." in render_nights([], [])


def test_many_nights_stay_a_small_page_and_older_ones_are_folded() -> None:
    page = sample(400)
    assert len(page) < 1_000_000
    assert f"{400 - OPEN} earlier ones" in page


def test_curves_lie_where_their_values_say() -> None:
    drawn = curve([(1.0, 0.0, 2.0), (2.0, None, None), (0.0, 0.0, 0.0)])
    assert drawn.line == "5,40 150,5 295,75"
    assert drawn.band == "5,5 295,75 295,75 5,75"
    assert drawn.dots == "M5 40h0M150 5h0M295 75h0"
    assert curve([]).line == ""
    assert curve([(3.0, None, None)]).line == f"5,{HEIGHT - 5}"
    assert curve([(float(n), None, None) for n in range(DOTS + 1)]).dots == "M295 5h0"
    assert columns([[1.0, 3.0], []]) == [[(0.0, 60.0, 21.25, 20.0), (0.0, 0.0, 21.25, 60.0)], []]


def hostile() -> str:
    stage = RECORD["stages"][1] | {"name": HOSTILE, "quarantined": {HOSTILE: 3}, "warnings": [HOSTILE]}
    stage |= {"facts": {"headline": [{"name": HOSTILE, "value": 1}]}}
    wild = dict.fromkeys(("job", "date", "status"), HOSTILE) | {"error": {"type": HOSTILE, "message": HOSTILE}}
    record = wild | {"stages": [stage], "metrics": {f"evaluate.drift.{HOSTILE}": 1}, "exit_code": 1}
    nights = [night_of("javascript:alert(1)/../" + HOSTILE, json.dumps(record)), night()]
    row = ServedRow(HOSTILE, HOSTILE, HOSTILE, HOSTILE, "now", 1, HOSTILE, Figure(HOSTILE, 1.0))
    return render_nights(nights, [row])


def test_hostile_texts_of_a_record_stay_text() -> None:
    page = hostile()
    assert "<script" not in page and "<img" not in page
    assert "&lt;script&gt;" in page
    links = re.findall(r'href="([^"]*)"', page)
    assert all(re.fullmatch(r"[#\w.%~-]+/?[\w.]*|data:,", link) for link in links), links
    assert any(link.startswith("javascript%3Aalert") for link in links)


needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")


@needs_chromium
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_the_page_of_nights_needs_no_more_width_than_a_phone_has(width: int, tmp_path: Path) -> None:
    for page in (sample(40), hostile()):
        found = read_page(tmp_path, page, width)
        assert (found["title"], found["width"]) == ("Nights", width)
        assert found["needed"] <= width


@needs_chromium
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_the_page_of_nights_opens_quietly_on_the_ground_of_its_reader(scheme: str, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(sample(40), encoding="utf-8")
    browse(
        tmp_path,
        (tmp_path / "index.html").as_uri(),
        f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}",
        "--window-size=1280,2400",
        f"--screenshot={tmp_path / 'page.png'}",
    )
    with Image.open(tmp_path / "page.png") as page:
        colours, counts = np.unique(np.asarray(page.convert("RGB")).reshape(-1, 3), axis=0, return_counts=True)
    assert tuple(colours[counts.argmax()].tolist()) == ((0x13, 0x16, 0x1B) if scheme == "dark" else (255, 255, 255))
    assert len(colours) > 100
