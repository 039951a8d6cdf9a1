"""The report page: whole, empty, hostile, and (where there is one) in a browser."""

from __future__ import annotations

import dataclasses
import io
import re
import subprocess
import sys
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

import crossweave
from crossweave.evaluation.report import render_report
from crossweave.evaluation.report_content import (
    CalibrationRow,
    ComparisonRow,
    DriftRow,
    EmbeddingMap,
    FoundPicture,
    HeadlineMetric,
    HistoryItem,
    MapPoint,
    MetricRow,
    PointwiseRow,
    QuarantineRow,
    Reason,
    RecommendedItem,
    ReportContent,
    Retrieval,
    RetrievalExample,
    RunSummary,
    SliceRow,
    StageRow,
    UserCard,
)

THIN = "\u202f"
EVIL = "<script>document.title='owned'</script>\"><img src=http://evil.example/x onerror=alert(1)>"
VOID = {"meta", "link", "img", "br", "path", "circle", "use", "rect"}


def poster(hue: int = 40) -> bytes:
    image = Image.new("RGB", (182, 268), (hue, 90, 140))
    ImageDraw.Draw(image).ellipse((30, 60, 150, 180), fill=(240, 200, hue))
    out = io.BytesIO()
    image.save(out, "JPEG")
    return out.getvalue()


def sample() -> ReportContent:
    return ReportContent(
        run=RunSummary(
            run_id="2026-11-22T02-00-11Z-7f3a",
            date="2026-11-22",
            job="Nightly recommendations",
            protocol="Every user with held-out rows ranks all items but the ones already taken.",
            status="done",
            versions={"torch": "2.13.0"},
            headline=(HeadlineMetric("ndcg@20", 0.29541, 0.2909, 0.3001, 0.1222), HeadlineMetric("coverage@20", 0.5)),
        ),
        stages=(
            StageRow("ingest", 41.3, 1012411, 1008528, 0, {"unknown_item": 3120, "duplicate_pair": 763}, "a note"),
            StageRow("train", 2231.0, None, None),
        ),
        curves={"train loss": [(1, 5.0), (2, 3.5)], "validation NDCG@20": [(1, 0.1), (2, 0.29)]},
        metrics=(
            MetricRow("ndcg", 20, "all", 0.29541, 0.2909, 0.3001, 6700, 0.1222),
            MetricRow("ndcg", 20, "cold items", 0.18, None, None, 1201),
        ),
        refused=["NDCG@10 is 0.2000, the run before has 0.3000"],
        stays="the run of 2026-11-21 stays served",
        warnings=["share of items removed is 0.300, above evaluate.drift.removed 0.1"],
        left_out={"ease": "the catalog is too large"},
        drift=[
            DriftRow("items removed", "share of items removed", 0.3, "removed", 0.1),
            DriftRow("item vectors", "share of neighbours that stayed", 0.9, "neighbours", 0.2, falls=True),
            DriftRow("scores", "stability index of the scores", 0.05, "scores", None),
        ],
        pointwise=[PointwiseRow("rating", "rmse", 0.8111, 321, 0.9222)],
        calibration=[CalibrationRow(0.2, 0.25, 8), CalibrationRow(0.8, 0.7654, 4)],
        comparisons=(ComparisonRow("the run <before>", "ndcg@20", 0.295, 0.31, -0.015, -0.02, -0.01, "worse", 6700),),
        slices=(
            SliceRow("history length", "1–4", "ndcg@20", 0.22, 412),
            SliceRow("history length", "100+", "ndcg@20", 0.31, 584),
        ),
        quarantine=(
            QuarantineRow(
                "embed", "image", "truncated_image", 21, (("tt0120737", "14 bytes missing"), ("tt77", "end"))
            ),
        ),
        cards=(
            UserCard(
                "User A",
                (HistoryItem("The Glass Harbour", poster(), "rated 4"), HistoryItem("No Picture", None)),
                (
                    RecommendedItem(
                        1, "Night Bus", poster(90), 2.5, (Reason("text", 1.25), Reason("image", -0.25)), True
                    ),
                    RecommendedItem(2, "Broken", b"broken", 2.1),
                ),
            ),
        ),
        map=EmbeddingMap(
            (
                MapPoint(0.0, 0.0, "Corner Shop", "drama", poster(60)),
                MapPoint(0.75, 0.25, "No Category", "", None),
                MapPoint(1.0, 1.0, "Far End", "comedy", b"broken"),
            ),
            3883,
            "genre",
            0.494,
        ),
        retrieval=Retrieval(
            "plot",
            "still",
            200,
            [(1, 0.25, 0.2), (10, 0.75, 0.7)],
            (
                RetrievalExample(
                    "Lost Key",
                    "A key is lost.",
                    (FoundPicture("Wrong Door", poster(), 0.8), FoundPicture("Open Gate", None, 0.75)),
                    1234,
                    FoundPicture("Lost Key", poster(90), 0.5, own=True),
                ),
                RetrievalExample(
                    "Sea Wall",
                    "A wall by the sea.",
                    (FoundPicture("Sea Wall", poster(120), 0.9, own=True),),
                    1,
                    FoundPicture("Sea Wall", poster(120), 0.9, own=True),
                ),
            ),
        ),
        settings="score:\n  k: 20\n",
    )


class Page(HTMLParser):
    """Collects tags, attributes, ids and text, and checks that tags are closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.stack: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.stack.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        if "style" not in self.stack[-1:]:
            self.text += data

    def values(self, attribute: str) -> list[str]:
        return [str(attrs[attribute]) for _, attrs in self.tags if attribute in attrs]


def hostile(content: ReportContent) -> ReportContent:
    """The same content with every text replaced by an attack."""

    def spoil(value: object) -> object:
        if isinstance(value, str):
            return value if value in ("all", "done") else EVIL
        if isinstance(value, dict):
            return {spoil(k): spoil(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(spoil(v) for v in value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return type(value)(**{f.name: spoil(getattr(value, f.name)) for f in dataclasses.fields(value)})
        return value

    spoiled = spoil(content)
    assert isinstance(spoiled, ReportContent)
    return spoiled


def test_every_part_of_the_content_is_on_the_page() -> None:
    text = re.sub(r"\s+", " ", Page(render_report(sample())).text.replace(THIN, "_"))
    for expected in (
        "Nightly recommendations", "2026-11-22T02-00-11Z-7f3a", "done", "torch", "2.13.0",
        "NDCG@20", "0.2954", "between 0.2909 and 0.3001", "popularity 0.1222, +142_%", "no interval",
        "1_012_411", "1_008_528", "unknown_item 3_120", "3_883 quarantined", "a note", "37_min 11_s", "no rows",
        "train loss", "last 3.5000", "cold items", "0.1800", "+0.1732", "6_700", "history length", "100+", "584",
        "truncated", "14 bytes missing", "tt0120737", "User A", "The Glass Harbour", "rated 4", "Night Bus",
        "rank 1, score 2.500", "+1.25", "−0.25", "✓ held out", "1 of 2 recommended in the held-out rows",
        "No reason was computed.", "score: k: 20", "1 more", "tt77 end",
        "3 of 3_883 items, drawn by the seed", "49_% of an item's ten nearest", "Coloured by genre", "Corner Shop",
        "drama", "not known", "those of 200 items", "plot → still", "0.7500", "A key is lost.", "rank 1_234 of 200",
        "Wrong Door", "✓ its own", "This run is not served. NDCG@10 is 0.2000, the run before has 0.3000.",
        "The run of 2026-11-21 stays served.",
        "Warning share of items removed is 0.300", "Not compared with ease: the catalog is too large.",
        "share of items removed warns", "≤ 0.1000", "≥ 0.2000", "RMSE", "0.8111", "0.9222", "Calibration of clicks",
        "0.7654",
    ):  # fmt: skip
        assert expected in text, expected


def test_the_page_is_sound_html_with_one_h1_a_nav_to_every_section_and_unique_ids() -> None:
    html = render_report(sample())
    page = Page(html)
    assert html.lstrip().startswith("<!doctype html>")
    assert page.stack == []
    tags = [tag for tag, _ in page.tags]
    assert tags.count("h1") == 1 and tags.count("main") == 1 and tags.count("nav") == 1
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    links = [str(attrs["href"]) for tag, attrs in page.tags if tag == "a"]
    assert {link[1:] for link in links} == {attrs["id"] for tag, attrs in page.tags if tag == "section"} | {"main"}
    assert all("scope" in attrs for tag, attrs in page.tags if tag == "th")
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.tags
    assert "prefers-color-scheme:dark" in html


def test_the_page_asks_nothing_of_the_network() -> None:
    page = Page(render_report(sample()))
    targets = [
        t for name in ("src", "href", "srcset", "poster", "data", "action", "xlink:href") for t in page.values(name)
    ]
    assert targets
    assert all(target.startswith(("data:", "#")) for target in targets)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "iframe", "object", "embed", "form", "base"}
    assert [attrs["rel"] for tag, attrs in page.tags if tag == "link"] == ["icon"]
    html = render_report(sample())
    assert "@import" not in html and "url(http" not in html
    assert "default-src 'none'" in html


def test_hostile_texts_stay_text_everywhere() -> None:
    tame, html = Page(render_report(sample())), render_report(hostile(sample()))
    page = Page(html)
    assert "<script" not in html
    assert EVIL in page.text
    assert page.text.count(EVIL) >= 25  # every text of the content, not just titles
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert not [src for src in page.values("src") if not re.match(r"data:image/(jpeg|webp);base64,[\w+/=]+$", src)]
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in tame.tags}


def test_pictures_are_small_data_uris_and_broken_ones_a_placeholder() -> None:
    page = Page(render_report(sample()))
    pictures = [str(attrs["src"]) for tag, attrs in page.tags if tag == "img"]
    assert len(pictures) == 6
    assert all(src.startswith(("data:image/jpeg;base64,/9j/", "data:image/webp;base64,UklGR")) for src in pictures)
    assert all(len(src) < 6000 for src in pictures)
    # on the cards one without a picture and one with broken bytes, one that a text found; a point just has none
    assert page.values("aria-label").count("no picture") == 3


def test_reason_bars_of_negative_shares_lie_left_of_the_zero_mark() -> None:
    html = render_report(sample())
    # shares -0.25 … 1.25: the zero lies at 0.25 / 1.5 of the track
    assert '<u style="left:16.67%">' in html
    assert 'style="left:16.67%;width:83.33%;' in html
    assert 'class="neg" style="left:0.0%;width:16.67%;' in html


def test_headline_bars_keep_their_proportions() -> None:
    html = render_report(sample())
    fill, low, width, base = (
        float(re.search(pattern, html).group(1))  # type: ignore[union-attr]
        for pattern in (
            r'"fill" style="width:([\d.]+)%',
            r'"range" style="left:([\d.]+)%',
            r'"range" style="left:[\d.]+%;width:([\d.]+)%',
            r'"base" style="left:([\d.]+)%',
        )
    )  # fmt: skip
    assert base / fill == pytest.approx(0.1222 / 0.29541, abs=0.001)
    assert low / fill == pytest.approx(0.2909 / 0.29541, abs=0.001)
    assert (low + width) / fill == pytest.approx(0.3001 / 0.29541, abs=0.001)


def test_bars_are_drawn_for_the_overall_slice_only_beside_the_baseline() -> None:
    page = Page(render_report(sample()))
    assert "K = 20" in page.text
    charts = [attrs for tag, attrs in page.tags if tag == "svg" and attrs.get("class") == "chart"]
    assert len(charts) == 4  # NDCG, calibration and two curves
    only_cold = dataclasses.replace(sample(), metrics=sample().metrics[1:])
    assert "No metric covers all users" in render_report(only_cold)


def test_empty_content_says_so_in_a_sentence_a_section() -> None:
    page = Page(render_report(ReportContent(RunSummary("r1", "2026-11-22", "Night", "", "failed"))))
    for sentence in (
        "No headline metric was computed in this run.", "No stage was recorded for this run.",
        "No user had a held-out item, so no metric was computed.", "No slice was computed in this run.",
        "No training curve was recorded", "No row was quarantined in this run.", "No user had recommendations to show.",
        "No map was drawn", "No text looked for a picture in this run.",
        "No settings were handed to this report.",
    ):  # fmt: skip
        assert sentence in page.text, sentence
    assert "table" not in {tag for tag, _ in page.tags}
    assert ("span", {"class": "chip bad"}) in page.tags


def test_the_quarantine_shows_what_was_put_aside_tonight_beside_all_nights() -> None:
    run = RunSummary("r1", "2026-11-22", "Night", "", "done")
    tonight = QuarantineRow("embed", "text", "empty", 3, (), 40)
    earlier = QuarantineRow("ingest", "item", "null_id", 0, (), 9)
    page = Page(render_report(ReportContent(run, quarantine=(tonight, earlier))))
    assert "Rows put aside tonight, never dropped: 3; over all nights 49." in page.text
    assert "null_id" not in page.text
    page = Page(render_report(ReportContent(run, quarantine=(earlier,))))
    assert "No row was quarantined in this run. Over all nights: 9." in page.text


def test_odd_numbers_and_half_empty_parts_render() -> None:
    nan = float("nan")
    content = ReportContent(
        run=RunSummary(
            "r", "d", "j", "p", "?", headline=(HeadlineMetric("x", nan, nan, nan, 0.0), HeadlineMetric("y", 0.0))
        ),
        stages=(StageRow("s", 0.0, 0, 0),),
        curves={"nothing": [], "only nan": [(1, nan)], "one": [(1, 0.5)]},
        metrics=(MetricRow("auc", None, "all", 0.7, nan, nan, 1, nan), MetricRow("ndcg", 5, "all", nan, None, None, 0)),
        slices=(SliceRow("f", "a", "m", 0.0, 1), SliceRow("f", "b", "other", nan, 2)),
        quarantine=(QuarantineRow("s", "", "r", 0),),
        cards=(
            UserCard("nobody"),
            UserCard("odd", recommended=(RecommendedItem(1, "", None, nan, (Reason("a", nan), Reason("b", 0.0))),)),
        ),
    )
    page = Page(render_report(content))
    assert "This user has no history: a cold user." in page.text
    assert "Nothing was left to recommend to this user." in page.text
    assert "nan" not in page.text.lower().replace("only nan", "")
    assert all("nan" not in style for style in page.values("style"))


def test_the_same_content_gives_the_same_page() -> None:
    assert render_report(sample()) == render_report(sample())


def test_the_page_is_made_from_inside_a_zip_without_pyplot_spark_torch_or_pandas(tmp_path: Path) -> None:
    package = Path(crossweave.__file__).parent
    with zipfile.ZipFile(tmp_path / "crossweave.zip", "w") as archive:
        for file in [package / "__init__.py", package / "errors.py", *(package / "evaluation").iterdir()]:
            if file.is_file():
                archive.write(file, Path("crossweave") / file.relative_to(package))
    program = (
        "from crossweave.evaluation.report import render_report, __file__ as f\n"
        "from crossweave.evaluation.report_content import ReportContent, RunSummary\n"
        "assert 'crossweave.zip' in f, f\n"
        "import sys; heavy = {'matplotlib.pyplot', 'pyspark', 'torch', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "sys.stdout.write(render_report(ReportContent(RunSummary('r', 'd', 'In a zip', '', 'done'))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(tmp_path / "crossweave.zip"), "MPLCONFIGDIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "<h1>In a zip</h1>" in done.stdout


def test_a_difference_stands_on_the_track_of_its_metric_with_zero_in_one_place() -> None:
    rows = (
        ComparisonRow("popularity", "ndcg@20", 0.3, 0.1, 0.2, 0.15, 0.25, "better", 9),
        ComparisonRow("the run before", "ndcg@20", 0.3, 0.3, 0.0, -0.05, 0.05, "not distinguishable", 9),
    )
    html = render_report(dataclasses.replace(sample(), comparisons=rows))
    # the track goes from -0.065 to 0.265
    assert html.count('<u style="left:19.7%">') == 2
    assert '"range" style="left:65.15%;width:30.3%"></i><i class="point" style="left:80.3%"' in html
    assert '"range" style="left:4.55%;width:30.3%"></i><i class="point" style="left:19.7%"' in html
    assert 'class="meter end base" style="width:33.33%"' in html
