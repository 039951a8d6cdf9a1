"""The small parts of the report: numbers, thumbnails and charts."""

from __future__ import annotations

import base64
import io
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from crossweave.evaluation import formats, pictures
from crossweave.evaluation.colours import BASELINE, OURS, PALETTE
from crossweave.evaluation.pictures import thumbnail_data_uri
from crossweave.evaluation.plots import bars_svg, curve_svg

THIN = "\u202f"


def picture(
    width: int, height: int, kind: str = "JPEG", mode: str = "RGB", colour: float | tuple[int, ...] = (200, 30, 30)
) -> bytes:
    out = io.BytesIO()
    Image.new(mode, (width, height), colour).save(out, kind)
    return out.getvalue()


def middle_pixel(uri: str | None) -> list[int]:
    pixels = np.asarray(opened(uri).convert("RGB")).astype(int)
    return list(pixels[pixels.shape[0] // 2, pixels.shape[1] // 2])


def opened(uri: str | None) -> Image.Image:
    assert uri is not None
    head, _, body = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(body, validate=True)))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.004, f"4{THIN}ms"), (0.42, f"0.4{THIN}s"), (9.949, f"9.9{THIN}s"), (9.96, f"10{THIN}s"),
        (59.4, f"59{THIN}s"), (59.7, f"1{THIN}min 00{THIN}s"), (612.4, f"10{THIN}min 12{THIN}s"),
        (3599.8, f"1{THIN}h 00{THIN}min"), (8000, f"2{THIN}h 13{THIN}min"), (None, "–"), (float("nan"), "–"),
    ],
)  # fmt: skip
def test_seconds_are_said_in_the_unit_a_reader_would_use(seconds: float | None, text: str) -> None:
    assert formats.format_seconds(seconds) == text


def test_numbers_have_four_decimals_thin_separators_and_a_true_minus() -> None:
    assert formats.format_metric(0.29537) == "0.2954"
    assert formats.format_metric(-0.25) == "−0.2500"
    assert formats.format_metric(0.25, signed=True) == "+0.2500"
    assert formats.format_metric(-0.00001, signed=True) == "0.0000"
    assert formats.format_metric(float("nan")) == formats.format_metric(None) == "–"
    assert formats.format_count(1008528) == f"1{THIN}008{THIN}528"
    assert formats.format_count(999) == "999"
    assert formats.format_count(None) == "–"
    assert formats.format_share(-0.126) == f"−13{THIN}%"
    assert formats.format_share(-0.001, signed=True) == f"0{THIN}%"
    assert formats.format_share(float("inf")) == "–"
    assert formats.format_score(-1.23456) == "−1.235"
    assert [formats.format_points(v) for v in (1.256, -0.25, -0.001, float("nan"))] == ["+1.26", "−0.25", "0.00", "–"]
    assert formats.format_curve_value(0.00012) == "1.2e−04"
    assert formats.format_curve_value(0.0) == "0.0000"
    assert [formats.format_metric_name(n) for n in ("ndcg@20", "hit_rate", "")] == ["NDCG@20", "Hit rate", ""]


@pytest.mark.parametrize(
    ("width", "height", "size"), [(182, 268, (65, 96)), (400, 100, (96, 24)), (40, 30, (40, 30)), (1, 1, (1, 1))]
)
def test_thumbnails_keep_their_shape_and_never_grow(width: int, height: int, size: tuple[int, int]) -> None:
    assert opened(thumbnail_data_uri(picture(width, height))).size == size


def test_png_webp_palette_and_grey_pictures_become_jpeg_of_their_colour() -> None:
    for made in (picture(50, 50, "PNG"), picture(50, 50, "WEBP")):
        red, green, blue = middle_pixel(thumbnail_data_uri(made))
        assert red > 170 and green < 70 and blue < 70
    assert all(abs(c - 77) < 4 for c in middle_pixel(thumbnail_data_uri(picture(50, 50, "PNG", "L", 77))))
    assert opened(thumbnail_data_uri(picture(50, 50, "PNG", "P", 0))).size == (50, 50)


def test_a_transparent_picture_stands_on_a_neutral_ground() -> None:
    clear = middle_pixel(thumbnail_data_uri(picture(50, 50, "PNG", "RGBA", (255, 0, 0, 0))))
    assert all(abs(channel - 132) < 12 for channel in clear)


@pytest.mark.parametrize(
    "broken",
    [
        None, b"", b"broken", b"\xff\xd8\xff\xe0", picture(300, 300)[:-200], picture(60, 60, "PNG")[:60],
        picture(60, 60, "GIF"), picture(60, 60, "BMP"), b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    ],
)  # fmt: skip
def test_broken_and_foreign_pictures_give_none_and_no_exception(broken: bytes | None) -> None:
    assert thumbnail_data_uri(broken) is None


def test_a_picture_with_too_many_pixels_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_PIXELS", 99 * 100)
    assert thumbnail_data_uri(picture(100, 100)) is None
    assert thumbnail_data_uri(picture(99, 100)) is not None


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("ground", ["#ffffff", "#13161b"])
@pytest.mark.parametrize("colour", sorted({OURS, BASELINE, *PALETTE}))
def test_every_series_colour_has_three_to_one_contrast_on_both_grounds(colour: str, ground: str) -> None:
    dark, light = sorted([luminance(colour), luminance(ground)])
    assert (light + 0.05) / (dark + 0.05) >= 3.0


def test_charts_are_well_formed_svg_with_text_as_text_in_the_ink_of_the_page() -> None:
    svg = bars_svg(["K = 10", "K = 20"], [0.2, 0.3], [(0.18, 0.22), None], [0.1, None], "metric-0")
    texts = [node.text for node in ElementTree.fromstring(svg).iter("text")]
    for label in ("K = 10", "K = 20", "0.200", "0.300", "0.100"):
        assert label in texts
    assert OURS in svg and BASELINE in svg and "currentColor" in svg
    assert "#010203" not in svg and "font-family" not in svg and "http" not in svg
    assert "none" in svg.split("<path", 2)[1]  # the ground is transparent


def test_a_negative_bar_is_drawn_below_the_zero_line() -> None:
    bars = [bars_svg(["a", "b"], [0.4, low], [None, None], [None, None], "x") for low in (-0.2, 0.0)]
    ticks = [{node.text for node in ElementTree.fromstring(svg).iter("text")} for svg in bars]
    assert {"−0.2", "−0.200"} <= ticks[0]  # the axis reaches down to it, and the label says so
    assert not any(text and text.startswith("−") for text in ticks[1])


def test_ids_of_two_charts_never_meet_and_every_reference_has_its_target() -> None:
    one, two = (curve_svg([(1, 0.5), (2, 0.4)], OURS, name) for name in ("curve-0", "curve-1"))
    ids = [{node.get("id") for node in ElementTree.fromstring(svg).iter() if node.get("id")} for svg in (one, two)]
    assert ids[0] and not ids[0] & ids[1]
    for svg, own in zip((one, two), ids, strict=True):
        used = {str(node.get("href"))[1:] for node in ElementTree.fromstring(svg).iter("use")}
        assert used and used <= own


def test_the_same_chart_gives_the_same_bytes_and_leaves_no_global_state() -> None:
    before = dict(mpl.rcParams)
    draw = [bars_svg(["a"], [0.2], [(0.1, 0.3)], [None], "x") for _ in range(2)]
    assert draw[0] == draw[1]
    assert dict(mpl.rcParams) == before


def test_odd_values_are_drawn_without_an_exception() -> None:
    nan, inf = float("nan"), float("inf")
    assert "<svg" in curve_svg([(1, nan), (2, inf), (3, 0.4)], OURS, "c")
    assert "<svg" in curve_svg([], OURS, "c")
    assert "<svg" in bars_svg(["$\\frac$"], [0.2], [(0.2000001, 0.1999999)], [0.0], "b")
    assert "<svg" in bars_svg([], [], [], [], "b")
