"""What a local model directory says about itself, read from its JSON files without loading the model."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from crossweave.encoders.huggingface import WHAT, read_config, weight_files
from crossweave.encoders.weights import read_json
from crossweave.errors import SettingsError

_DEFAULT_TOKENS = 512  # where nothing says less; attention grows with the square, and items' texts are short
_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model")
# Files beside the weights that can change a vector.
_VALUE_FILES = (
    *_TOKENIZER_FILES,
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "config.json",
    "modules.json",
    "sentence_bert_config.json",
)
_DECODERS = (
    *("gpt2", "gpt_neo", "gpt_neox", "gptj", "opt", "bloom", "falcon", "phi", "phi3", "llama", "mistral", "mixtral"),
    *("qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "stablelm", "smollm3", "olmo", "olmo2"),
)
_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer", "data2vec-text")
_POOLINGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
}


@dataclass(frozen=True)
class Layout:
    """A directory's facts: `width` of a vector, `max_tokens` of a text, how to pool, and the files that count."""

    path: Path
    width: int
    is_decoder: bool
    pooling: str
    normalize: bool
    max_tokens: int
    token_limit: int
    files: tuple[tuple[str, Path], ...]

    def with_choices(self, pooling: str, normalize: Literal["auto"] | bool, max_tokens: int | None) -> Layout:
        """The same with what the settings say instead of auto. Raises SettingsError beyond the model's length."""
        if max_tokens is not None and max_tokens > self.token_limit:
            raise SettingsError(f"encoder.max_tokens: this model reads at most {self.token_limit}, got {max_tokens}")
        return dataclasses.replace(
            self,
            pooling=self.pooling if pooling == "auto" else pooling,
            normalize=self.normalize if normalize == "auto" else normalize,
            max_tokens=max_tokens or self.max_tokens,
        )


def read_layout(path: Path) -> Layout:
    """The layout of a transformers or sentence-transformers directory.

    Raises SettingsError where a file is missing or the model is of a kind that is not supported.
    """
    config = read_config(path)
    if config.get("is_encoder_decoder"):
        raise SettingsError(f"{WHAT}: {config.get('model_type')} is an encoder-decoder, which is not supported")
    if not any((path / name).is_file() for name in _TOKENIZER_FILES):
        raise SettingsError(f"{WHAT}: {str(path)!r} has no tokenizer; expected one of {', '.join(_TOKENIZER_FILES)}")
    is_decoder = config.get("model_type") in _DECODERS or bool(config.get("is_decoder"))
    pooling, normalize, extra = _read_modules(path)
    stated = _optional_json(path / "sentence_bert_config.json").get("max_seq_length")
    limit = _token_limit(path, config)
    return Layout(
        path=path,
        width=_width(path, config),
        is_decoder=is_decoder,
        pooling=pooling or ("last" if is_decoder else "mean"),
        normalize=normalize,
        max_tokens=min(stated or _DEFAULT_TOKENS, limit),
        token_limit=limit,
        files=tuple((name, path / name) for name in (*weight_files(path), *_present(path), *extra)),
    )


def _present(path: Path) -> list[str]:
    return [name for name in _VALUE_FILES if (path / name).is_file()]


def _optional_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = read_json(path, WHAT) if path.is_file() else {}
    return content


def _width(path: Path, config: dict[str, Any]) -> int:
    for key in ("hidden_size", "n_embd", "d_model", "dim"):
        if isinstance(config.get(key), int):
            return int(config[key])
    raise SettingsError(f"{WHAT}: {str(path / 'config.json')!r} does not say the model's width (hidden_size)")


def _token_limit(path: Path, config: dict[str, Any]) -> int:
    """The most tokens the model's positions and its tokenizer allow."""
    limits = [config.get("max_position_embeddings"), config.get("n_positions")]
    if config.get("model_type") in _OFFSET_POSITIONS and limits[0]:
        limits[0] -= (config.get("pad_token_id") or 0) + 1  # these count positions from after the padding's id
    limits.append(_optional_json(path / "tokenizer_config.json").get("model_max_length"))
    known = [int(limit) for limit in limits if isinstance(limit, (int, float)) and limit > 0]
    return min(known, default=_DEFAULT_TOKENS)


def _read_modules(path: Path) -> tuple[str | None, bool, list[str]]:
    """Pooling (None: not said), whether a Normalize module follows, and the files read for it."""
    if not (path / "modules.json").is_file():
        return None, False, []
    pooling: str | None = None
    normalize = False
    files: list[str] = []
    for module in read_json(path / "modules.json", WHAT):
        kind = str(module["type"]).rpartition(".")[2]
        if kind == "Pooling":
            file = f"{module['path']}/config.json"
            pooling = _pooling_of(read_json(path / file, WHAT), path / file)
            files.append(file)
        elif kind == "Normalize":
            normalize = True
        elif kind != "Transformer" or module["path"]:
            raise SettingsError(f"{WHAT}: the module {kind!r} at {module['path']!r} in modules.json is not supported")
    return pooling, normalize, files


def _pooling_of(config: dict[str, Any], path: Path) -> str:
    """From the boolean keys of sentence-transformers up to 5, or the one word of later ones."""
    chosen = [_POOLINGS.get(key, key) for key, value in config.items() if key.startswith("pooling_mode_") and value]
    if not chosen and isinstance(config.get("pooling_mode"), str):
        chosen = [{"lasttoken": "last"}.get(config["pooling_mode"], config["pooling_mode"])]
    if len(chosen) != 1 or chosen[0] not in _POOLINGS.values():
        raise SettingsError(
            f"{WHAT}: {str(path)!r} asks for pooling {chosen}; supported is one of mean, cls, last",
            hint="Say encoder.pooling yourself only if the model was trained that way.",
        )
    return chosen[0]
