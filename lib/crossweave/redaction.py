"""What is secret, and how it is kept out of everything that is written or said.

Secret are: values that came from the environment, values under names that say so (password, token, api_key, …),
credentials inside of URIs and connection strings, and texts that have the form of a known credential. The values are
remembered, so that an error that quotes one of them is redacted too. It is applied where texts leave: see `redacted`.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

HIDDEN = "[redacted]"
SHORTEST, SHORTEST_NAMED = 6, 4  # characters that are recognised in a text; the second where a name says "secret"
LONG_LINE = 16  # characters of a line that is recognised alone, of a secret of several lines

_ALWAYS = frozenset({"password", "passwd", "passphrase", "pwd", "secret", "secrets", "credential", "credentials"})
_ALWAYS |= {"apikey", "accesskey", "secretkey", "privatekey"}
_LAST = frozenset({"token", "key", "keys", "sas", "signature", "sig", "auth", "authorization", "bearer", "cookie"})
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_NAME = (
    r"(?:[\w.-]*(?:passw(?:or)?d|passphrase|pwd|secret|credentials?|token|signature|authorization"
    r"|(?:api|access|account|private|secret|shared|storage)[_-]?key)|(?:[\w.-]*[_.-])?(?:sas|sig))"
)
_VALUE = r"(?:\"[^\"]*\"|'[^']*'|[^\s,;&'\"<>\])}]+)"
_SHAPES = [  # what is replaced, and what stays before it
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), ""),
    # user:password@ or token@ of a URI; `container@account` of Azure and a port are neither.
    (re.compile(r"(?i)\b((?!abfss?:|wasbs?:|file:)[a-z][a-z0-9+.-]+://?)[^\s/?#'\"<>@]+(?=@[^\s/])"), r"\1"),
    (
        re.compile(r"(?i)\b([a-z][a-z0-9+.-]+://?)(?![\w.-]+:\d+(?:[/?#]|$))[^\s/?#'\"<>:]*:[^\s'\"<>]*(?=@[^\s/])"),
        r"\1",
    ),
    (
        re.compile(
            r"(?i)([?&;](?:x-(?:amz|goog)-(?:signature|credential|security-token)|awsaccesskeyid|googleaccessid|"
            rf"key|code|{_NAME})=)[^\s&;'\"<>]+"
        ),
        r"\1",
    ),
    (re.compile(r"(?i)\b((?:AccountKey|SharedAccessKey|SharedAccessSignature)\s*=\s*)[^\s;'\"<>]+"), r"\1"),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"), ""),
    (re.compile(r"\b(?:gh[pousr]_|github_pat_|hf_|glpat-|sk-|xox[abprs]-)[\w-]{16,}"), ""),
]
_SPOKEN = [
    (re.compile(r"(?i)\b((?:bearer|basic)\s+)(?=[\w.~+/=-]*\d)[\w.~+/=-]{8,}"), r"\1"),
    (
        re.compile(
            rf"(?i)(?<![\w.-])((?:(?P<q>[\"']){_NAME}(?P=q)|{_NAME})\s*[=:]\s*)"
            rf"(?!\$\{{oc\.env:|\[redacted\]){_VALUE}"
        ),
        r"\1",
    ),
]
_known: dict[str, str] = {}  # what to look for -> what stands in its place


def names_a_secret(name: str) -> bool:
    """Say whether a setting or variable of this name holds a secret: `api_key` and `DB_PASSWORD`, not `token_norm`."""
    words = [word.lower() for word in _WORDS.findall(name)]
    return bool(_ALWAYS.intersection(words)) or (bool(words) and words[-1] in _LAST)


def remember(value: str, stands_for: str = HIDDEN, *, named: bool = False) -> None:
    """Have a value replaced wherever its text occurs from now on in this process; `named`: its name says it is secret.

    What is too short to be recognised, a number or a path that is there is not remembered unless its name says so.
    """
    if len(value) < (SHORTEST_NAMED if named else SHORTEST) or (not named and _is_plain(value)):
        return
    texts = {value, *(line.strip() for line in value.splitlines() if len(line.strip()) >= LONG_LINE)}
    for text in texts:
        escaped = repr(text)[1:-1], json.dumps(text)[1:-1], html.escape(text), quote(text, safe=""), quote_plus(text)
        for form in (text, *escaped):
            _known.setdefault(form, stands_for)


def forget() -> None:
    """Forget every remembered value: another process, or test, begins."""
    _known.clear()


def redacted(text: str) -> str:
    """Return a text that is about to be written or said, without the secrets in it."""
    text = without_credentials(text)
    for pattern, kept in _SPOKEN:
        text = pattern.sub(kept + HIDDEN, text)
    return text


def without_remembered(text: str) -> str:
    """Return a text without remembered values: a large one, whose parts were redacted before they were put together."""
    for form in sorted(_known, key=len, reverse=True):
        text = text.replace(form, _known[form])
    return text


def without_credentials(text: str) -> str:
    """Return a text without remembered values and credentials by their form: a value of the settings."""
    text = without_remembered(text)
    for pattern, kept in _SHAPES:
        text = pattern.sub(kept + HIDDEN, text)
    return text


def credentials_in(text: str) -> list[str]:
    """Return the credentials that a text holds by their form; of user:password the password too."""
    found = [match[0][match.end(1) - match.start() if kept else 0 :] for pattern, kept in _SHAPES
             for match in pattern.finditer(text)]  # fmt: skip
    return found + [each.partition(":")[2] for each in found if ":" in each]


def redacted_all(value: Any) -> Any:
    """Return a JSON-able value with every text in it redacted, and all that stands under a name that says secret."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, Mapping):
        return {k: HIDDEN if v and names_a_secret(str(k)) else redacted_all(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [redacted_all(each) for each in value]
    return value


def _is_plain(value: str) -> bool:
    """Say whether a value tells nothing: a number, or a place on this machine."""
    if re.fullmatch(r"[-+]?\d+(\.\d*)?(e[-+]?\d+)?", value.strip(), re.IGNORECASE):
        return True
    if "://" in value or ("/" not in value and not value.startswith(".")):
        return False
    try:
        path = Path(value)
        return path.exists() or (len(path.parts) > 2 and path.parent.exists())
    except (OSError, ValueError):
        return False
