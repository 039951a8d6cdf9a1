"""What counts as a secret in a text, and what is left alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossweave.redaction import HIDDEN, credentials_in, forget, names_a_secret, redacted, redacted_all, remember


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    forget()
    yield
    forget()


@pytest.mark.parametrize(
    "name",
    ["password", "DB_PASSWORD", "db_password_prod", "api_key", "apiKey", "AccountKey", "key", "hf_token", "token",
     "client_secret", "SECRET2", "credentials", "sas", "sas_token", "signature", "X-Amz-Signature", "passphrase"],
)  # fmt: skip
def test_a_name_that_says_secret_is_known(name: str) -> None:
    assert names_a_secret(name)


@pytest.mark.parametrize("name", ["token_norm", "tokenizer", "max_tokens", "keyboard", "design", "keep_days", "author"])
def test_a_name_that_only_resembles_one_is_none(name: str) -> None:
    assert not names_a_secret(name)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("got 'http://u:hunter2@h:5000/x'", "got 'http://[redacted]@h:5000/x'"),
        ("s3a://ID:SE/CR+T@bucket/p is not there", "s3a://[redacted]@bucket/p is not there"),
        ("/ws/https:/u:hunter2@h/x is not there", "/ws/https:/[redacted]@h/x is not there"),  # as a path shows it
        ("https://ghp@host/x", "https://[redacted]@host/x"),
        ("https://h/x?b=1&X-Amz-Signature=abc%3D&X-Amz-Date=2", "https://h/x?b=1&X-Amz-Signature=[redacted]&X-Amz-Date=2"),
        ("https://a.blob/x?se=1&sig=a%2Fb&sp=r", "https://a.blob/x?se=1&sig=[redacted]&sp=r"),
        ("AccountName=a;AccountKey=abc==;X=1", "AccountName=a;AccountKey=[redacted];X=1"),
        ("the password=hunter2, they say", "the password=[redacted], they say"),
        ("{'api_key': 'a b', 'dim': 3}", "{'api_key': [redacted], 'dim': 3}"),
        ("--set encoders.x.api_key=abc is bad", "--set encoders.x.api_key=[redacted] is bad"),
        ("key AKIAIOSFODNN7EXAMPLE", "key [redacted]"),
        ("x -----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY----- y", "x [redacted] y"),
    ],
)  # fmt: skip
def test_a_credential_is_found_by_its_form(text: str, wanted: str) -> None:
    assert redacted(text) == wanted
    assert redacted(wanted) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "http://host:5000/users@home", "abfss://container@account.dfs.core.windows.net/x", "file:///a/b@c", "file:/a@c",
        "model.token_norm=unit", "section.key=value", "write to me@example.org", "https://h/x?page=2&size=3",
        "inputs.items.path: /data/a=b.parquet", "tokens: 5", "kansas=1", "the key is item_id",
    ],
)  # fmt: skip
def test_what_is_no_secret_is_left_as_it_is(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize("secret", ["canary-7f3a", "a'b\"c\\d e", "<ümläut&more>", "sla/sh+plus=="])
def test_a_remembered_value_is_found_as_it_is_quoted_escaped_and_in_a_uri(secret: str) -> None:
    from html import escape
    from urllib.parse import quote

    remember(secret, "${oc.env:NAME}")
    for form in (secret, repr(secret), json.dumps(secret), escape(secret), quote(secret, safe="")):
        assert secret not in redacted(f"it is {form}.")
        assert "${oc.env:NAME}" in redacted(f"it is {form}.")


def test_each_long_line_of_a_remembered_value_is_found_alone() -> None:
    remember("first line of the secret\nsecond line of the secret", named=True)
    assert redacted("it begins: first line of the secret") == f"it begins: {HIDDEN}"


def test_what_tells_nothing_is_not_remembered_unless_its_name_says_secret(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    for value in ("cuda", "1000000", "0.25", str(tmp_path / "shop"), str(tmp_path / "shop" / "new")):
        remember(value)
        assert redacted(f"x {value} y") == f"x {value} y"
    remember("1234567", named=True)
    assert redacted("x 1234567 y") == f"x {HIDDEN} y"


def test_every_text_of_a_record_is_redacted_and_its_figures_are_kept() -> None:
    remember("canary-7f3a")
    record = {
        "a": ["canary-7f3a", 3, None, {"b": "x canary-7f3a"}],
        "password": "short",
        "n": 1.5,
        "token_norm": "unit",
    }
    wanted = {"a": [HIDDEN, 3, None, {"b": f"x {HIDDEN}"}], "password": HIDDEN, "n": 1.5, "token_norm": "unit"}
    assert redacted_all(record) == wanted


def test_credentials_of_a_text_are_given_so_that_they_can_be_remembered() -> None:
    text = "s3://id:se/cret@bucket/x?X-Amz-Signature=abcd&v=1"
    assert credentials_in(text) == ["id:se/cret", "abcd", "se/cret"]
    assert credentials_in("s3://bucket/x?v=1") == []
