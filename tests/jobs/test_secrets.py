"""Promise 16: a secret in the environment, in a URI or under a name that says so reaches no file and no screen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support import Chain

from crossweave.redaction import forget
from crossweave.stages.ingest import INGEST

CANARIES = {
    "environment": "canary-env-5f1c8e",
    "uri": "canary-uri-77aa31",
    "signature": "canary-sig-02b9d4",
    "named": "canary-key-e81f60",
    "fallback": "canary-def-3d4e5f",
}
CONF = f"""
inputs:
  interactions: {{weight: rating, time: event_time}}
modalities:
  text: {{kind: text, columns: [title, description], encoder: words}}
encoders:
  words: {{type: hashing, dim: 16}}
  spare:                               # of no modality
    type: hashing
    api_key: {CANARIES["named"]}
    note: see ${{oc.env:SHOP_CANARY}}
    link: s3://id:{CANARIES["uri"]}@bucket/${{oc.env:SHOP_CANARY}}?X-Amz-Signature={CANARIES["signature"]}&v=1
    token: ${{oc.env:SHOP_NOWHERE,{CANARIES["fallback"]}}}
model: {{collaborative: {{edlae: null}}}}
train: {{ranks: 1, max_epochs: 1}}
evaluate: {{baselines: [], map_items: 0, retrieval_items: 0, pointwise_users: 0}}
"""


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    forget()
    monkeypatch.setenv("SHOP_CANARY", CANARIES["environment"])
    path = tmp_path / "secrets.yaml"
    path.write_text(CONF, encoding="utf-8")
    yield [path]
    forget()


def leaks(chain: Chain) -> list[str]:
    """Name every file of the workspace, and line that was said, that holds a canary."""
    texts = {f"said: {line}": line.encode() for line in chain.said}
    texts |= {str(path): path.read_bytes() for path in chain.workspace.rglob("*") if path.is_file()}
    return [f"{kind} in {name}" for name, text in texts.items() for kind, secret in CANARIES.items()
            if secret.encode() in text]  # fmt: skip


@pytest.mark.slow
def test_a_whole_run_leaves_no_secret_in_any_file_or_line_and_its_settings_load_again(
    new_chain: Chain, conf: list[Path], tmp_path: Path
) -> None:
    result = new_chain.run(conf=conf)
    assert result["exit_code"] == 0, result["error"]
    assert leaks(new_chain) == []
    saved = yaml.safe_load((new_chain.workspace / "runs" / "latest" / "config.yaml").read_text(encoding="utf-8"))
    spare = saved["encoders"]["spare"]
    assert spare["link"] == "s3://[redacted]@bucket/${oc.env:SHOP_CANARY}?X-Amz-Signature=[redacted]&v=1"
    assert spare["note"] == "see ${oc.env:SHOP_CANARY}"
    report = next((new_chain.workspace / "runs").glob("*/report.html")).read_text(encoding="utf-8")
    assert "see ${oc.env:SHOP_CANARY}" in report

    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(saved), encoding="utf-8")
    assert new_chain.attempt(conf=[again]) == 2
    assert "encoders.spare.link" in new_chain.said[0]
    given = {f"encoders__spare__{name}": f"other-{name}" for name in ("link", "api_key", "token")}
    assert new_chain.run(conf=[again], **given)["status"] == "noop"
    assert leaks(new_chain) == []


@pytest.mark.parametrize(
    "pairs",
    [
        {"inputs__items__path": "/data/${oc.env:SHOP_CANARY}.parquet"},
        {"inputs__items__path": f"https://u:{CANARIES['uri']}@h/x?sig={CANARIES['signature']}"},
        {"inputs__items__derived": {"x": f"upper('{CANARIES['environment']}') + nope"}},
        {"tracking__mlflow": {"uri": f"http://u:{CANARIES['uri']}@h:5000"}},
        {"train__ranks": "${oc.env:SHOP_CANARY}"},
        {"encoders__words__api_key": CANARIES["named"]},
        {"encoders__words__dim": {"password": CANARIES["named"]}},
        {"password": CANARIES["named"]},
    ],
)
def test_a_run_that_fails_says_no_secret(new_chain: Chain, conf: list[Path], pairs: dict) -> None:
    code = new_chain.attempt([INGEST], conf=conf, **pairs)
    assert code in (2, 3)
    assert leaks(new_chain) == []
    for path in new_chain.workspace.glob("runs/2*/run_result.json"):
        assert json.loads(path.read_text(encoding="utf-8"))["exit_code"] == code
