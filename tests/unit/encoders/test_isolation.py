"""Decoder processes: values that crash, hang or eat memory become failures, and their neighbours are prepared."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from tiny import picture, sound_container, tone, tune, video

from crossweave.encoders import make_encoder
from crossweave.encoders.base import BadValueError, Encoder, EncoderSettings, FloatArray
from crossweave.encoders.isolation import IsolatedPreparer


class Fragile(Encoder):
    """Stands for a decoder library: certain bytes make it crash, hang, or allocate without end."""

    name = "fragile"
    Settings: ClassVar[type[EncoderSettings]] = EncoderSettings
    isolated = True

    def _dim(self) -> int:
        return 1

    def _prepare_one(self, value: Any) -> Any:
        if value == b"crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if value == b"hang":
            time.sleep(1000)
        if value == b"eat":
            return [bytearray(1 << 26) for _ in range(1000)]
        if value == b"bad":
            raise BadValueError("truncated", "It ends early.")
        return np.full(1000, len(value), dtype=np.float32)

    def _encode(self, examples: list[Any]) -> FloatArray:
        return np.asarray([[example[0]] for example in examples], dtype=np.float32)


class Unusable(Fragile):
    """Its files do not fit, whatever the value."""

    def prepare(self, values: Any) -> Any:
        raise ValueError("the tokenizer is torn")


@pytest.fixture
def preparer():
    made = IsolatedPreparer(Fragile("image", EncoderSettings()), seconds=0.5, megabytes=256)
    yield made
    made.close()


def test_good_and_bad_values_come_out_as_the_encoder_prepares_them(preparer: IsolatedPreparer) -> None:
    prepared = preparer.prepare([b"a", b"bad", b"abc"])
    assert prepared.positions == [0, 2]
    assert [example[0] for example in prepared.examples] == [1, 3]
    assert [(f.position, f.reason, f.detail) for f in prepared.failures] == [(1, "truncated", "It ends early.")]


def test_a_value_that_kills_hangs_or_fills_its_decoder_costs_only_itself(preparer: IsolatedPreparer) -> None:
    values = [b"a", b"crash", b"bb", b"hang", b"ccc", b"eat", b"dddd"]
    prepared = preparer.prepare(values)
    assert prepared.positions == [0, 2, 4, 6]
    assert [example[0] for example in prepared.examples] == [1, 2, 3, 4]
    assert {f.position: f.reason for f in prepared.failures} == {
        1: "decoder_crashed",
        3: "timeout",
        5: "too_much_memory",
    }
    assert not any(f.transient for f in prepared.failures)
    assert preparer.prepare([b"after"]).positions == [0]


def test_an_error_that_concerns_every_value_is_raised() -> None:
    preparer = IsolatedPreparer(Unusable("image", EncoderSettings()), seconds=5, megabytes=256)
    with pytest.raises(ValueError, match="the tokenizer is torn"):
        preparer.prepare([b"a"])


def test_none_is_a_programming_error(preparer: IsolatedPreparer) -> None:
    with pytest.raises(TypeError, match="value 1 is None"):
        preparer.prepare([b"a", None])


def test_closing_ends_the_decoder_process(preparer: IsolatedPreparer) -> None:
    preparer.prepare([b"a"])
    assert preparer._decoder is not None
    pid = preparer._decoder._pid
    preparer.close()
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail(f"decoder process {pid} still runs")


CONTENTS = {
    "soundtrack": ("video", "soundtrack", {"encoder": {"type": "mfcc"}}, lambda: [video("red")]),
    "frames": ("video", "frames", {"encoder": {"type": "descriptor"}}, lambda: [video("red")]),
    "sounds": ("audio", "mfcc", {}, lambda: [tone(440), tone(440, form="MP3"), sound_container("ipod", "aac")]),
    "pictures": ("image", "descriptor", {}, lambda: [picture("red", form=form) for form in ("JPEG", "PNG", "WEBP")]),
    "tunes": ("audio", "midi", {}, lambda: [tune([60, 62])]),
}
"""Each encoder of a format, as its settings make it, and small contents of every format it reads."""


@pytest.mark.parametrize("name", sorted(CONTENTS))
def test_all_that_decoding_imports_is_there_before_the_memory_is_limited(name: str, tmp_path: Path) -> None:
    kind, encoder, settings, make = CONTENTS[name]
    for number, content in enumerate(make()):
        (tmp_path / f"{number}").write_bytes(content)
    code = (  # in a process of its own, which has imported nothing yet, as a worker has
        "import sys; from pathlib import Path; from crossweave.encoders import make_encoder; "
        "from crossweave.encoders.isolation import IsolatedPreparer, start_spawner; start_spawner(); "
        f"made = make_encoder({kind!r}, {encoder!r}, {settings!r}); "
        f"values = [path.read_bytes() for path in sorted(Path({str(tmp_path)!r}).iterdir())]; "
        "prepared = IsolatedPreparer(made, seconds=20, megabytes=8).prepare(values); "
        "sys.exit('; '.join(failure.detail for failure in prepared.failures))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stderr.strip() == ""


def test_too_little_memory_for_a_video_is_said_to_be_that() -> None:
    made = make_encoder("video", "frames", {"encoder": {"type": "descriptor"}})
    preparer = IsolatedPreparer(made, seconds=20, megabytes=64)
    try:
        large = preparer.prepare([video("red", (4000, 4000), seconds=0.1, tone_hertz=None)])
    finally:
        preparer.close()
    assert [failure.reason for failure in large.failures] == ["too_much_memory"]
