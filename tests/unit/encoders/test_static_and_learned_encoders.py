"""Word vectors, TF-IDF, attributes and vectors in files: their arithmetic by hand, and files that do not fit."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crossweave.encoders import make_encoder
from crossweave.encoders.base import Encoder
from crossweave.encoders.batching import encode_values
from crossweave.errors import SettingsError

GLOVE = "the 1 0\nred 0 2\npan 2 2\n"


def fitted(kind: str, name: str, settings: dict[str, Any], values: list[Any]) -> Encoder:
    encoder = make_encoder(kind, name, settings)
    encoder.fit(values)
    encoder.load()
    return encoder


def vectors(encoder: Encoder, values: list[Any]) -> Any:
    rows, _, failures = encode_values(encoder, values)
    assert failures == []
    return rows


def test_the_three_formats_of_word_vectors_give_the_same_vectors(tmp_path: Path) -> None:
    binary = b"3 2\n" + b"".join(
        word.encode() + b" " + struct.pack("<2f", *numbers) + b"\n"
        for word, numbers in {"the": (1, 0), "red": (0, 2), "pan": (2, 2)}.items()
    )
    files = {
        "glove.txt": GLOVE.encode(),
        "word2vec.txt": b"3 2\n" + GLOVE.encode(),
        "word2vec.bin": binary,
        "glove.txt.gz": gzip.compress(GLOVE.encode()),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        encoder = fitted("text", "word2vec", {"path": str(tmp_path / name), "sif": 0, "remove_common": False}, [])
        assert vectors(encoder, ["the red", "Pan, zebra!"]).tolist() == [[0.5, 1.0], [2.0, 2.0]], name


def test_frequent_words_weigh_less_and_the_common_direction_is_removed(tmp_path: Path) -> None:
    (tmp_path / "glove.txt").write_text(GLOVE)
    texts = ["the red", "the pan", "the the"]
    settings = {"path": str(tmp_path / "glove.txt"), "sif": 0.5, "remove_common": False}
    weighted = vectors(fitted("text", "word2vec", settings, texts), ["the red"])[0]
    the, red = 0.5 / (0.5 + 4 / 6), 0.5 / (0.5 + 1 / 6)
    np.testing.assert_allclose(weighted, [the / 2, red * 2 / 2], rtol=1e-6)
    whole = fitted("text", "word2vec", {**settings, "remove_common": True}, texts)
    common = np.array(whole.learned["common"])
    np.testing.assert_allclose(vectors(whole, texts) @ common, 0, atol=1e-6)
    assert np.linalg.norm(common) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"4 2\n" + GLOVE.encode(), "announces 4 words and holds 3"),
        ("a.txt", b"the 1 0\nred 0\n", "line 2"),
        ("a.txt", b"the 1 0\nred 0 nan\n", "NaN"),
        ("a.bin", b"2 2\nthe " + struct.pack("<2f", 1, 0) + b"red " + b"\0" * 3, "is torn, at word 2 of 2"),
        ("a.bin", b"no counts here\n", "does not begin with the counts"),
        ("a.txt.gz", gzip.compress(GLOVE.encode())[:-9], "gzip"),
        ("a.txt", b"", "does not begin"),
    ],
)
def test_torn_word_files_are_refused_in_plain_words(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SettingsError, match=words):
        fitted("text", "word2vec", {"path": str(tmp_path / name), "sif": 0, "remove_common": False}, [])


def test_tfidf_equals_scikit_learn() -> None:
    text = pytest.importorskip("sklearn.feature_extraction.text", reason="scikit-learn is not installed")
    lists = [["a", "b"], ["a"], ["c", "a", "b"], ["d"]]
    encoder = fitted("tags", "tfidf", {"max_tags": 4, "spare": 2}, lists)
    assert [tag for tag, _ in encoder.learned["tags"]] == ["a", "b", "c", "d"]
    peer = text.TfidfVectorizer(analyzer=lambda tags: tags, vocabulary=["a", "b", "c", "d"])
    wanted = peer.fit_transform(lists).toarray()
    np.testing.assert_allclose(vectors(encoder, lists)[:, :4], wanted, rtol=1e-6)
    assert not vectors(encoder, lists)[:, 4:].any()


def test_without_spare_numbers_an_unseen_tag_adds_nothing_and_alone_it_is_a_vector_of_zeros() -> None:
    encoder = fitted("tags", "tfidf", {"max_tags": 4, "spare": 0}, [["a"], ["b"]])
    first, both, alone = vectors(encoder, [["a"], ["a", "zebra"], ["zebra"]])
    assert encoder.dim == 4
    np.testing.assert_array_equal(first, both)
    assert not alone.any()


def test_tags_that_too_few_items_hold_stay_outside_the_vocabulary() -> None:
    lists = [["a", "b"], ["a", "c"], ["d"]]
    encoder = fitted("tags", "tfidf", {"max_tags": 4, "min_items": 2, "spare": 0}, lists)
    assert encoder.learned["tags"] == [["a", 2]]
    assert [np.count_nonzero(row) for row in vectors(encoder, lists)] == [1, 1, 0]


def test_a_tag_that_the_fit_never_saw_goes_to_the_spare_numbers() -> None:
    encoder = fitted("tags", "tfidf", {"max_tags": 4, "spare": 2}, [["a"], ["b"]])
    row = vectors(encoder, [["new"]])[0]
    assert not row[:4].any()
    assert np.count_nonzero(row[4:]) == 1


def test_attributes_become_standardised_numbers_bins_and_one_hot_blocks() -> None:
    settings = {
        "columns": {
            "price": {"as": "number"},
            "stock": {"as": "number", "scale": "bins", "bins": 2},
            "brand": {"as": "category", "size": 2},
            "sold": {"as": "category", "size": 1},
        }
    }
    rows = [
        {"price": 1, "stock": 1, "brand": "x", "sold": True},
        {"price": 3, "stock": 9, "brand": "x"},
        {"brand": "y", "stock": 9},
    ]
    encoder = fitted("attributes", "tabular", settings, [json.dumps(row) for row in rows])
    assert vectors(encoder, [json.dumps(row) for row in [*rows, {"brand": "z"}]]).tolist() == [
        # x, y, other, missing | price, missing | true, other, missing | low, high, missing: by the columns' names
        [1, 0, 0, 0, -1, 0, 1, 0, 0, 1, 0, 0],
        [1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 1, 0],
        [0, 1, 0, 0, 0, 1, 0, 0, 1, 0, 1, 0],
        [0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1],
    ]
    other_way = {"columns": dict(reversed(settings["columns"].items()))}
    again = fitted("attributes", "tabular", other_way, [json.dumps(row) for row in rows])
    assert again.identity == encoder.identity
    assert np.array_equal(vectors(again, ['{"price": 2}']), vectors(encoder, ['{"price": 2}']))


def test_dates_are_years_and_a_log_scale_flattens_large_numbers() -> None:
    columns = {"day": {"as": "date"}, "views": {"as": "number", "scale": "log"}}
    rows = ['{"day": "2000-01-01", "views": 0}', '{"day": "2002-01-01", "views": 99}']
    encoder = fitted("attributes", "tabular", {"columns": columns}, rows)
    assert encoder.learned["day"]["mean"] == pytest.approx(31.0, abs=0.01)
    np.testing.assert_allclose(vectors(encoder, rows), [[-1, 0, -1, 0], [1, 0, 1, 0]], atol=1e-6)


def test_a_column_that_never_occurs_is_refused_when_the_encoder_is_fitted() -> None:
    with pytest.raises(SettingsError, match="no value of prise was found"):
        fitted("attributes", "tabular", {"columns": {"prise": {"as": "number"}}}, ['{"price": 3}'])


def attributes(*rows: dict[str, Any]) -> list[str]:
    return [json.dumps(row) for row in rows]


def refused(columns: dict[str, Any], rows: list[str]) -> tuple[str, str]:
    with pytest.raises(SettingsError) as caught:
        fitted("attributes", "tabular", {"columns": columns}, rows)
    return caught.value.message, caught.value.hint


def test_prices_that_are_texts_are_named_with_one_of_them_and_no_other_column_is_blamed() -> None:
    columns = {"price": {"as": "number", "scale": "log"}, "fragile": {"as": "category"}}
    rows = attributes(*({"price": f"${n}.00", "fragile": "YN"[n % 2]} for n in range(12, 52)))
    message, hint = refused(columns, rows)
    assert 'none of the 40 values of price is a number: one is the text "$12.00"' in message
    assert "fragile" not in message + hint
    assert "inputs.items.derived" in hint and "price" in hint


@pytest.mark.parametrize(
    ("column", "cell", "words"),
    [
        ({"as": "date"}, "yesterday", 'is a date in ISO format: one is the text "yesterday"'),
        ({"as": "date"}, 20200101, "is a date in ISO format: one is the number 20200101"),
        ({"as": "number"}, [1, 2], "is a number: one is the list [1, 2]"),
        ({"as": "number"}, float("nan"), "is a number: one is the number NaN"),
        ({"as": "category"}, {"a": 1}, 'is a single value: one is the object {"a": 1}'),
    ],
)
def test_a_column_of_another_type_is_named_with_one_of_its_values(column: Any, cell: Any, words: str) -> None:
    message, _ = refused({"x": column, "y": {"as": "number"}}, attributes(*[{"x": cell, "y": 1}] * 3))
    assert f"none of the 3 values of x {words}" in message
    assert " y " not in message


def test_columns_that_are_bad_on_different_items_are_both_named_and_a_missing_one_beside_them() -> None:
    columns = {name: {"as": "number"} for name in ("a", "b", "c")}
    message, _ = refused(columns, attributes({"a": 1, "b": "x"}, {"a": "y", "b": 2}))
    assert "no value of c was found" in message
    assert "not every one of the 2 values of a is a number" in message
    assert "not every one of the 2 values of b is a number" in message


def test_a_few_bad_cells_cost_their_items_and_not_the_fit() -> None:
    columns = {"a": {"as": "number"}, "b": {"as": "number"}}
    rows = attributes({"a": 1, "b": 2}, {"a": 3, "b": "x"}, {"a": 5, "b": 4})
    encoder = fitted("attributes", "tabular", {"columns": columns}, rows)
    assert encoder.learned["a"]["mean"] == 3.0
    failures = encode_values(encoder, rows)[2]
    assert [(f.position, f.reason, f.detail) for f in failures] == [
        (1, "wrong_type", "The column 'b' holds a value of type text where a number was expected.")
    ]


BOM = b"\xef\xbb\xbf"


def test_a_byte_order_mark_before_word_vectors_is_no_part_of_the_first_word(tmp_path: Path) -> None:
    for name, content in (("glove.txt", GLOVE.encode()), ("word2vec.txt", b"3 2\n" + GLOVE.encode())):
        for packed in (False, True):
            path = tmp_path / (name + ".gz" * packed)
            path.write_bytes(gzip.compress(BOM + content) if packed else BOM + content)
            encoder = fitted("text", "word2vec", {"path": str(path), "sif": 0, "remove_common": False}, [])
            assert vectors(encoder, ["the", "pan"]).tolist() == [[1.0, 0.0], [2.0, 2.0]], path.name


def test_a_byte_order_mark_before_a_text_is_no_letter_of_it() -> None:
    encoder = make_encoder("text", "hashing", {})
    encoder.load()
    first, second = vectors(encoder, ["\ufeffRed shirt", "Red shirt"])
    np.testing.assert_array_equal(first, second)


def test_using_a_learner_before_it_is_fitted_is_a_programming_error() -> None:
    encoder = make_encoder("tags", "tfidf", {})
    with pytest.raises(RuntimeError, match="before it was fitted"):
        _ = encoder.fingerprint
    before = encoder.identity
    encoder.fit([["a"]])
    one = encoder.fingerprint
    encoder.fit([["a"], ["b"]])
    assert (encoder.identity, encoder.fingerprint == one) == (before, False)


IDS = {
    "ids.txt": b"p1\np2\np3\n",
    "ids.json": b'{"p1": 0, "p2": 1, "p3": 2}',
    "i_id_mapping.csv": b"asin\titemID\np2\t1\np1\t0\np3\t2\n",
}


@pytest.mark.parametrize("mark", [b"", BOM])
@pytest.mark.parametrize("name", sorted(IDS))
def test_ids_name_the_rows_of_an_array(tmp_path: Path, name: str, mark: bytes) -> None:
    np.savez(tmp_path / "image_feat.npz", features=np.arange(6).reshape(3, 2))
    (tmp_path / name).write_bytes(mark + IDS[name])
    settings = {"path": str(tmp_path / "image_feat.npz"), "ids": str(tmp_path / name)}
    encoder = make_encoder("vector_id", "file", settings)
    encoder.load()
    assert vectors(encoder, ["p3", "p1"]).tolist() == [[4, 5], [0, 1]]
    assert encode_values(encoder, ["p4", "0"])[2][0].reason == "no_vector"


def test_a_folder_holds_one_file_an_item_and_no_id_leads_out_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "vectors"
    folder.mkdir()
    np.save(folder / "p1.npy", np.array([1.0, 2.0]))
    np.save(folder / "p2.npy", np.array([1.0, 2.0, 3.0]))
    np.save(tmp_path / "secret.npy", np.array([9.0, 9.0]))
    encoder = make_encoder("vector_id", "file", {"path": str(folder)})
    encoder.load()
    rows, positions, failures = encode_values(encoder, ["p1", "p2", "../secret", "p3"])
    assert (rows.tolist(), positions) == ([[1, 2]], [0])
    assert [failure.reason for failure in failures] == ["wrong_dim", "no_vector", "no_vector"]


def test_files_of_vectors_that_do_not_fit_each_other_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 3)))
    for content, words in [("a\nb\nc\n", "beyond the array's 2"), ("a\na\n", "names an id twice")]:
        (tmp_path / "ids.txt").write_text(content)
        settings = {"path": str(tmp_path / "a.npy"), "ids": str(tmp_path / "ids.txt")}
        with pytest.raises(SettingsError, match=words):
            make_encoder("vector_id", "file", settings).load()
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(SettingsError, match="not a whole array of numbers"):
        make_encoder("vector_id", "file", {"path": str(tmp_path / "objects.npy")}).load()
