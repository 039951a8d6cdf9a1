"""What a spreadsheet would take for a formula stays a text in exported tables."""

import pyarrow as pa
import pytest

from crossweave.stages.export.features import as_cells


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=HYPERLINK(\"http://evil\")", "'=HYPERLINK(\"http://evil\")"),
        ("+1+cmd|' /C calc'!A0", "'+1+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"), ("@SUM(A1)", "'@SUM(A1)"), ("\t=1", "'\t=1"), ("\r=1", "'\r=1"), ("\n=1", "'\n=1"),
        ("＝1+1", "'＝1+1"), ("'=1", "''=1"),
        ("-5", "-5"), ("+4.5e3", "+4.5e3"), ("-.5", "-.5"), ("tt77", "tt77"), ("a=b", "a=b"), ("'quoted'", "'quoted'"),
        ("", ""), (None, None),
    ],
)  # fmt: skip
def test_an_id_that_begins_like_a_formula_gets_an_apostrophe_and_numbers_stay_numbers(cell, written) -> None:
    assert as_cells(pa.array([cell, "x"], pa.string())).to_pylist() == [written, "x"]


def test_ids_that_are_integers_are_left_alone() -> None:
    ids = pa.array([-5, 7], pa.int64())
    assert as_cells(ids) is ids
