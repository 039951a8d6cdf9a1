"""Text and tags through a transformer from a local directory, as transformers or sentence-transformers save it.

Letters in names: B texts, T tokens of the longest one, D the model's width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from crossweave.encoders.adapters import hash_adapter, with_adapter
from crossweave.encoders.base import (
    BadValueError,
    EncoderSettings,
    Prepared,
    failure_of,
    refuse_none,
)
from crossweave.encoders.huggingface import import_transformers, load_model, model_of_shapes
from crossweave.encoders.neural import NeuralSettings, TrainableEncoder
from crossweave.encoders.texts import check_tags, check_text
from crossweave.encoders.transformer_layout import Layout, read_layout
from crossweave.encoders.weights import hash_files
from crossweave.errors import SettingsError

# A token seldom covers more characters than this; what lies far beyond max_tokens is not worth tokenising.
_CHARS_PER_TOKEN = 64


class TransformerSettings(NeuralSettings):
    """Settings of the transformer encoder."""

    path: Path = Field(description="Directory with config.json, the tokenizer and safetensors; its content is hashed.")
    adapter: Path | None = Field(
        None, description="Directory of a peft adapter made for these weights: LoRA, AdaLoRA, IA3 or prefixes; hashed."
    )
    pooling: Literal["auto", "mean", "cls", "last"] = Field(
        "auto",
        description="How token vectors become one; auto: as the directory says, else last for decoders, else mean.",
    )
    normalize: Literal["auto"] | bool = Field(
        "auto", description="Scale vectors to length 1; auto: where the directory has a Normalize module."
    )
    max_tokens: int | None = Field(
        None, ge=1, description="Tokens read of a text; null: as the directory says, 512 at most."
    )
    prefix: str = Field("", description="Put before each text, for models trained with one, such as 'passage: '.")
    max_chars: int = Field(1_000_000, ge=1, description="Characters; longer texts are refused, as no item needs them.")
    batch_tokens: int = Field(1024, ge=1, description="Padded tokens of one call; about 1,024 suit a CPU core.")


class TransformerEncoder(TrainableEncoder):
    """A text, or tags joined by ", ", becomes the pooled output [D] of a transformer; long texts are cut at
    `max_tokens`.

    No network, no pickled weights and no code from the directory. Failures: wrong_type, empty, too_long. Raises
    SettingsError where the directory is missing, incomplete or of a kind that is not supported.
    """

    name = "transformer"
    Settings: ClassVar[type[EncoderSettings]] = TransformerSettings
    neutral_settings = TrainableEncoder.neutral_settings | {"path", "adapter", "max_chars", "batch_tokens"}
    settings: TransformerSettings

    def __init__(self, kind: str, settings: EncoderSettings) -> None:
        super().__init__(kind, settings)
        self._tokenizer: Any = None
        self._layout: Layout | None = None

    @property
    def batch_budget(self) -> int:
        """Padded tokens of one call."""
        return self.settings.batch_tokens

    def cost(self, example: Any) -> int:
        """Tokens."""
        return len(example)

    @property
    def layout(self) -> Layout:
        """What the directory says about pooling, width and length, with the settings laid over it."""
        if self._layout is None:
            self._layout = read_layout(self.settings.path).with_choices(
                self.settings.pooling, self.settings.normalize, self.settings.max_tokens
            )
        return self._layout

    def _dim(self) -> int:
        return self.layout.width

    def _weights_hash(self) -> str:
        adapter = self.settings.adapter
        weights = hash_files(self.layout.files)
        return weights if adapter is None else f"{weights} with {hash_adapter(adapter)}"

    def prepare(self, values: Sequence[Any]) -> Prepared:
        """Token ids of each text. Raises TypeError on None, SettingsError where the tokenizer is not usable."""
        tokenizer = self.tokenizer
        prepared = Prepared([], [], [])
        texts: list[str] = []
        for position, value in enumerate(values):
            refuse_none(position, value)
            try:
                texts.append(self._text_of(value))
            except Exception as error:
                prepared.failures.append(failure_of(position, error))
            else:
                prepared.positions.append(position)
        if texts:
            # One call for all: the tokenizer is compiled code, and the call itself costs more than a short text.
            prepared.examples.extend(
                np.asarray(ids, dtype=np.int64)
                for ids in tokenizer(
                    texts,
                    truncation=True,
                    max_length=self.layout.max_tokens,
                    return_attention_mask=False,
                    return_token_type_ids=False,
                )["input_ids"]
            )
        return _without_tokenless(prepared)

    def _text_of(self, value: Any) -> str:
        limit = self.settings.max_chars
        text = ", ".join(check_tags(value, limit)) if self.kind == "tags" else check_text(value, limit)
        text = self.settings.prefix + text[: self.layout.max_tokens * _CHARS_PER_TOKEN]
        return text.encode("utf-8", "replace").decode()  # lone surrogates, which tokenizers refuse

    @property
    def tokenizer(self) -> Any:
        """The directory's own. Raises SettingsError where it is not usable."""
        if self._tokenizer is None:
            auto_tokenizer = import_transformers().AutoTokenizer
            path = str(self.layout.path)
            try:
                tokenizer = auto_tokenizer.from_pretrained(
                    path, local_files_only=True, trust_remote_code=False, use_fast=True
                )
            except Exception as error:  # transformers raises whatever its files lead it to
                raise SettingsError(f"encoder.path: the tokenizer in {path!r} cannot be loaded ({error})") from error
            tokenizer.truncation_side = "right"
            self._tokenizer = tokenizer
        return self._tokenizer

    @property
    def files(self) -> tuple[tuple[str, Path], ...]:
        """Weights, configuration and tokenizer."""
        return self.layout.files

    def network(self) -> torch.nn.Module:
        """The model as transformers loads it, with the adapter in it where there is one."""
        model = load_model(import_transformers().AutoModel, self.layout.path)
        if self.settings.adapter is not None:
            model = with_adapter(model, self.settings.adapter)
        if self.layout.is_decoder:
            model.config.use_cache = False  # nothing is generated, so keys and values need not be kept
        ready: torch.nn.Module = model
        return ready

    def skeleton(self) -> torch.nn.Module:
        """The model's shapes."""
        return model_of_shapes(self.layout.path)

    @property
    def padding(self) -> int:
        """The id that stands under the mask: any will do for GPT-like models, which have none."""
        tokenizer = self.tokenizer
        return int((tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id) or 0)

    def collate(self, examples: Sequence[Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids int64 [B, T], padded on the right, and where they are none, bool [B, T]."""
        return pad(examples, self.padding)

    def states(self, network: Any, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Token vectors [B, T, D]."""
        found: torch.Tensor = network(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return found

    def vectors(self, network: Any, *batch: torch.Tensor) -> torch.Tensor:
        """Pooled token vectors."""
        ids_BT, mask_BT = batch
        vectors_BD = pool(self.states(network, ids_BT, mask_BT).float(), mask_BT, self.layout.pooling)
        return torch.nn.functional.normalize(vectors_BD, dim=1) if self.layout.normalize else vectors_BD


def pad(texts: Sequence[np.ndarray], padding: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids of B texts side by side: int64 [B, T], padded on the right, and where they are none, bool [B, T]."""
    lengths_B = torch.tensor([len(ids) for ids in texts])
    ids_BT = torch.full((len(texts), int(lengths_B.max())), padding, dtype=torch.int64)
    for row, ids in enumerate(texts):
        ids_BT[row, : len(ids)] = torch.from_numpy(ids)
    return ids_BT, torch.arange(ids_BT.shape[1])[None, :] < lengths_B[:, None]


def pool(states: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """Token vectors [B, T, D] as one vector [B, D] over the tokens where `mask` bool [B, T] is true.

    mean: their mean; cls: the first; last: the last one that is no padding (padding stands on the right).
    """
    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        last = mask.long().sum(dim=1) - 1
        return states[torch.arange(len(states), device=states.device), last]
    weights = mask[..., None].to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1)


def _without_tokenless(prepared: Prepared) -> Prepared:
    """A text of characters that the tokenizer drops (control characters, to a model without marks) has no vector."""
    if all(len(ids) for ids in prepared.examples):
        return prepared
    kept = Prepared([], [], list(prepared.failures))
    for ids, position in zip(prepared.examples, prepared.positions, strict=True):
        if len(ids):
            kept.examples.append(ids)
            kept.positions.append(position)
        else:
            kept.failures.append(failure_of(position, BadValueError("empty", "The tokenizer found no token.")))
    return kept
