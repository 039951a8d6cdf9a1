"""A small model that knows nothing yet, for catalogs in languages or jargon that no ready model knows.

Its tokenizer is learned from the catalog: WordPiece for the BERT family (Devlin et al. 2019), byte-level BPE for GPT
(Radford et al. 2019), each with the special tokens that its objective needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from crossweave.config.pretraining import FreshModel
from crossweave.encoders.huggingface import import_transformers
from crossweave.errors import InputContractError

PADDING, UNKNOWN, FIRST, LAST, MASK = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
END = "<|endoftext|>"


def make_fresh(settings: FreshModel, texts: Iterable[str], folder: Path, seed: int) -> int:
    """Learn a tokenizer from texts and save it with an untrained model; returns how many words it knows.

    Raises InputContractError where the texts have no word.
    """
    transformers = import_transformers()
    bert = settings.family == "bert"
    tokenizer = _wordpiece(texts, settings.words) if bert else _byte_pairs(texts, settings.words)
    words = tokenizer.get_vocab_size()
    if words <= (len(SPECIAL) if bert else 257):
        raise InputContractError("there is no text to learn words from", "check the columns of the modality")
    named = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    if not bert:
        named = {"bos_token": END, "eos_token": END, "unk_token": END}
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=settings.max_tokens, **named
    )
    fast.save_pretrained(str(folder))
    torch.manual_seed(seed)
    _untrained(transformers, settings, words, tokenizer).save_pretrained(str(folder), safe_serialization=True)
    return int(words)


def _untrained(transformers: Any, settings: FreshModel, words: int, tokenizer: Tokenizer) -> Any:
    if settings.family == "bert":
        return transformers.BertModel(
            transformers.BertConfig(
                vocab_size=words,
                hidden_size=settings.width,
                num_hidden_layers=settings.layers,
                num_attention_heads=settings.heads,
                intermediate_size=4 * settings.width,
                max_position_embeddings=settings.max_tokens,
                pad_token_id=tokenizer.token_to_id(PADDING),
            ),
            add_pooling_layer=False,
        )
    end = tokenizer.token_to_id(END)
    return transformers.GPT2Model(
        transformers.GPT2Config(
            vocab_size=words,
            n_embd=settings.width,
            n_layer=settings.layers,
            n_head=settings.heads,
            n_positions=settings.max_tokens,
            bos_token_id=end,
            eos_token_id=end,
        )
    )


def _wordpiece(texts: Iterable[str], words: int) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=words, special_tokens=list(SPECIAL), show_progress=False)
    tokenizer.train_from_iterator(_whole(texts), trainer)
    ends = [(token, tokenizer.token_to_id(token)) for token in (FIRST, LAST)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{FIRST} $A {LAST}", special_tokens=ends)
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _byte_pairs(texts: Iterable[str], words: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=max(words, 257),
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_whole(texts), trainer)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _whole(texts: Iterable[str]) -> Iterator[str]:
    """Replace lone surrogates, which tokenizers refuse, as the encoder does."""
    return (text.encode("utf-8", "replace").decode() for text in texts)
