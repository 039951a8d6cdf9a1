"""Every encoder's speed on contents of a usual size, one thread, float32: the table of docs/encoders.md."""

from __future__ import annotations

import io
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import bench
import mido
import numpy as np
import soundfile
import torch
from PIL import Image
from safetensors.torch import save_file

from crossweave.encoders import make_encoder
from crossweave.encoders.batching import encode_values
from crossweave.encoders.huggingface import import_transformers
from crossweave.encoders.torchvision_compat import define_missing_schemas
from crossweave.encoders.vae import Vae, VaeShape, save_vae

SECONDS = 4.0  # of work a figure rests on, at the least
RNG = np.random.default_rng(0)
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{number}" for number in range(5000))]


def texts(count: int) -> list[str]:
    """Texts of log-normal length, 57 words on average."""
    lengths = np.clip(RNG.lognormal(3.7, 0.8, count), 3, 300).astype(int)
    return [" ".join(RNG.choice(VOCABULARY[5:], length)) for length in lengths]


def pictures(count: int) -> list[bytes]:
    """JPEGs of 1024 × 768 pixels."""
    made = []
    for _ in range(count):
        stream = io.BytesIO()
        Image.fromarray(RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((1024, 768)).save(stream, "JPEG")
        made.append(stream.getvalue())
    return made


def sounds(count: int) -> list[bytes]:
    """WAV files of 10 s at 16 kHz."""
    made = []
    for _ in range(count):
        stream = io.BytesIO()
        soundfile.write(stream, RNG.standard_normal(160_000).astype(np.float32) * 0.1, 16_000, format="WAV")
        made.append(stream.getvalue())
    return made


def tunes(count: int) -> list[bytes]:
    """MIDI files of 500 notes."""
    made = []
    for _ in range(count):
        track = mido.MidiTrack()
        for pitch in RNG.integers(40, 80, 500):
            track.append(mido.Message("note_on", note=int(pitch), velocity=80, time=0))
            track.append(mido.Message("note_off", note=int(pitch), velocity=0, time=240))
        stream = io.BytesIO()
        mido.MidiFile(tracks=[track]).save(file=stream)
        made.append(stream.getvalue())
    return made


def videos(count: int) -> list[bytes]:
    """MP4 files (MPEG-4) of 10 s, 640 × 480 pixels, 25 frames a second, with sound."""
    stream = io.BytesIO()
    with av.open(stream, "w", format="mp4") as container:
        shown = container.add_stream("mpeg4", rate=25)
        shown.width, shown.height, shown.pix_fmt = 640, 480, "yuv420p"
        heard = container.add_stream("aac", rate=16_000, layout="mono")
        for _ in range(250):
            coarse = Image.fromarray(RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((640, 480))
            container.mux(shown.encode(av.VideoFrame.from_image(coarse)))
        container.mux(shown.encode(None))
        wave = RNG.standard_normal((1, 160_000)).astype(np.float32) * 0.1
        frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux(heard.encode(frame))
        container.mux(heard.encode(None))
    return [stream.getvalue()] * count


def hugging(folder: Path, model: Any, processor: dict[str, Any] | None = None) -> str:
    """Save a model with random weights, and its preprocessing; weights do not change the speed."""
    model.save_pretrained(folder)
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    else:
        index = {word: place for place, word in enumerate(VOCABULARY)}
        import_transformers().BertTokenizerFast(vocab=index).save_pretrained(folder)
    return str(folder)


def squares(side: int) -> dict[str, Any]:
    """The preprocessing of a picture model."""
    return {
        "do_resize": True,
        "size": {"height": side, "width": side},
        "resample": 3,
        "do_normalize": True,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }


def cases(folder: Path) -> list[tuple[str, str, str, dict[str, Any], Callable[[int], Sequence[Any]]]]:
    """What is measured: shown name, kind, type, settings and contents."""
    hf = import_transformers()
    import torchvision

    size = len(VOCABULARY)
    bert = hf.BertConfig(
        vocab_size=size, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    base = hf.BertConfig(vocab_size=size)
    small, large = hugging(folder / "l6", hf.BertModel(bert)), hugging(folder / "b", hf.BertModel(base))
    speech = {"sampling_rate": 16_000, "do_normalize": True}
    sees_sound = {"sampling_rate": 16_000, "num_mel_bins": 128, "max_length": 1024, "do_normalize": True}
    sees_sound |= {"mean": -4.27, "std": 4.57}
    words = folder / "words.txt"
    rows = RNG.standard_normal((len(VOCABULARY), 300)).round(3)
    words.write_text(
        "".join(f"{w} {' '.join(map(str, r))}\n" for w, r in zip(VOCABULARY, rows, strict=True)), encoding="utf-8"
    )
    save_vae(Vae(VaeShape(side=64, channels=(32, 64, 128), latent=64)), folder / "vae")

    def tags(count: int) -> list[list[str]]:
        return [[str(tag) for tag in RNG.choice(VOCABULARY[5:], 8)] for _ in range(count)]

    def facts(count: int) -> list[str]:
        return [json.dumps({"price": float(RNG.random()), "brand": f"b{RNG.integers(100)}"}) for _ in range(count)]

    columns = {"price": {"as": "number"}, "brand": {"as": "category", "size": 64}}
    found = [
        ("hashing", "text", "hashing", {"dim": 384}, texts),
        ("word2vec, 300 numbers", "text", "word2vec", {"path": str(words)}, texts),
        ("transformer, MiniLM-L6 shape", "text", "transformer", {"path": small}, texts),
        ("transformer, BERT-base", "text", "transformer", {"path": large}, texts),
        ("tfidf", "tags", "tfidf", {}, tags),
        ("tabular, two columns", "attributes", "tabular", {"columns": columns}, facts),
        ("descriptor", "image", "descriptor", {}, pictures),
        ("vae, 64 pixels", "image", "vae", {"path": str(folder / "vae")}, pictures),
    ]  # fmt: skip
    for name in ("mobilenet_v2", "resnet50", "vgg16", "efficientnet_b0", "convnext_tiny", "vit_b_16"):
        file = folder / f"{name}.safetensors"
        save_file(torchvision.models.get_model(name, weights=None).state_dict(), file)
        found.append((f"torchvision {name}", "image", "torchvision", {"model": name, "weights": str(file)}, pictures))
    models = {
        "CLIP ViT-B/32": (hf.CLIPModel(hf.CLIPConfig(projection_dim=512)), squares(224)),
        "SigLIP B/16": (hf.SiglipModel(hf.SiglipConfig()), squares(224)),
        "DINOv2 S/14": (
            hf.Dinov2Model(hf.Dinov2Config(hidden_size=384, num_attention_heads=6, patch_size=14, image_size=518)),
            squares(224),
        ),
    }
    for name, (model, processor) in models.items():
        path = hugging(folder / name.replace("/", "-"), model, processor)
        found.append((f"transformer, {name}", "image", "transformer", {"path": path}, pictures))
    ears = {
        "Wav2Vec2-base": (hf.Wav2Vec2Model(hf.Wav2Vec2Config()), speech),
        "HuBERT-base": (hf.HubertModel(hf.HubertConfig()), speech),
        "AST": (hf.ASTModel(hf.ASTConfig()), sees_sound),
    }
    found += [("mfcc, 10 s", "audio", "mfcc", {}, sounds), ("spectrogram, 10 s", "audio", "spectrogram", {}, sounds)]
    for name, (model, processor) in ears.items():
        path = hugging(folder / name, model, processor)
        found.append((f"transformer, {name}, 10 s", "audio", "transformer", {"path": path}, sounds))
    found.append(("midi, 500 notes", "audio", "midi", {}, tunes))
    mobile = {"type": "torchvision", "model": "mobilenet_v2", "weights": str(folder / "mobilenet_v2.safetensors")}
    found.append(("frames, 8 through mobilenet_v2, 10 s", "video", "frames", {"frames": 8, "encoder": mobile}, videos))
    found.append(("soundtrack through mfcc, 10 s", "video", "soundtrack", {"encoder": {"type": "mfcc"}}, videos))
    return found


def rate(encoder: Any, make: Callable[[int], Sequence[Any]]) -> tuple[float, int]:
    """Contents a second, decoding included, on at least SECONDS of work; and how many contents that was."""
    probe = make(4)
    encode_values(encoder, probe)
    start = time.perf_counter()
    encode_values(encoder, probe)
    one = (time.perf_counter() - start) / len(probe)
    count = int(np.clip(SECONDS / one, 4, 4096))
    values = make(count)
    start = time.perf_counter()
    _, good, failures = encode_values(encoder, values)
    taken = time.perf_counter() - start
    assert len(good) == count, failures[:1]
    return count / taken, count


def main() -> None:
    """Measure each encoder and keep the table."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    define_missing_schemas()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, kind, kind_of, settings, make in cases(Path(folder)):
            encoder = make_encoder(kind, kind_of, settings)
            if hasattr(type(encoder.settings), "model_fields") and "precision" in type(encoder.settings).model_fields:
                encoder = make_encoder(kind, kind_of, {**settings, "precision": "float32"})
            if encoder.learns:
                encoder.fit(make(2000))
            encoder.load()
            speed, count = rate(encoder, make)
            rows.append((f"{kind}: {name}", f"{speed:,.1f}/s, {encoder.dim} numbers ({count} contents)"))
            sys.stderr.write(f"{rows[-1]}\n")
    bench.keep("encoders", "Contents a second of each encoder, one thread, float32, decoding included", "none", rows)


if __name__ == "__main__":
    main()
