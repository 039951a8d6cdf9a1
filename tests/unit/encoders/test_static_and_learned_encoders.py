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
        # price, missing | low, high, missing | x, y, other, missing | true, other, missing
        [-1, 0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0],
        [1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 1],
        [0, 1, 0, 1, 0, 0, 1, 0, 0, 0, 0, 1],
        [0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1],
    ]


def test_dates_are_years_and_a_log_scale_flattens_large_numbers() -> None:
    columns = {"day": {"as": "date"}, "views": {"as": "number", "scale": "log"}}
    rows = ['{"day": "2000-01-01", "views": 0}', '{"day": "2002-01-01", "views": 99}']
    encoder = fitted("attributes", "tabular", {"columns": columns}, rows)
    assert encoder.learned["day"]["mean"] == pytest.approx(31.0, abs=0.01)
    np.testing.assert_allclose(vectors(encoder, rows), [[-1, 0, -1, 0], [1, 0, 1, 0]], atol=1e-6)


def test_a_column_that_never_occurs_is_refused_when_the_encoder_is_fitted() -> None:
    with pytest.raises(SettingsError, match="no value of prise was found"):
        fitted("attributes", "tabular", {"columns": {"prise": {"as": "number"}}}, ['{"price": 3}'])


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


@pytest.mark.parametrize("name", sorted(IDS))
def test_ids_name_the_rows_of_an_array(tmp_path: Path, name: str) -> None:
    np.savez(tmp_path / "image_feat.npz", features=np.arange(6).reshape(3, 2))
    (tmp_path / name).write_bytes(IDS[name])
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
