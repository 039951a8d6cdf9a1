"""Small models that know nothing yet, for pictures, and for texts in languages or jargon that no ready model knows.

A tokenizer is learned from the catalog: pairs of bytes (Sennrich et al. 2016; Radford et al. 2019), so that no script
is unknown, with the special tokens of BERT (Devlin et al. 2019) or GPT. WordPiece would learn other words on every run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from crossweave.config.pretraining import FreshText, FreshVae
from crossweave.encoders.huggingface import import_transformers
from crossweave.encoders.vae import Vae, VaeShape, save_vae
from crossweave.errors import InputContractError

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PADDING, _, FIRST, LAST, _ = SPECIAL
END = "<|endoftext|>"
ALPHABET = 256  # bytes


def make_fresh_text(settings: FreshText, texts: Iterable[str], folder: Path, seed: int) -> int:
    """Learn a tokenizer from texts and save it with an untrained model; returns how many words it knows.

    Raises InputContractError where the texts have no word.
    """
    transformers = import_transformers()
    bert = settings.family == "bert"
    special = SPECIAL if bert else (END,)
    tokenizer = _byte_pairs(texts, settings.words, special)
    words = tokenizer.get_vocab_size()
    if words <= ALPHABET + len(special):
        raise InputContractError("there is no text to learn words from", "check the columns of the modality")
    if bert:
        ends = [(token, tokenizer.token_to_id(token)) for token in (FIRST, LAST)]
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{FIRST} $A {LAST}", special_tokens=ends)
        named = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    else:
        named = {"bos_token": END, "eos_token": END, "unk_token": END}
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=settings.max_tokens, **named
    )
    fast.save_pretrained(str(folder))
    torch.manual_seed(seed)
    _untrained(transformers, settings, words, tokenizer).save_pretrained(str(folder), safe_serialization=True)
    return int(words)


def make_fresh_vae(settings: FreshVae, folder: Path, seed: int) -> int:
    """Save an autoencoder with random weights; returns how many it has."""
    torch.manual_seed(seed)
    vae = Vae(VaeShape(side=settings.side, channels=tuple(settings.channels), latent=settings.latent))
    save_vae(vae, folder)
    return sum(weight.numel() for weight in vae.parameters())


def _untrained(transformers: Any, settings: FreshText, words: int, tokenizer: Tokenizer) -> Any:
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


def _byte_pairs(texts: Iterable[str], words: int, special: Sequence[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=words,
        special_tokens=list(special),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_whole(texts), trainer)
    return tokenizer


def _whole(texts: Iterable[str]) -> Iterator[str]:
    """Replace lone surrogates, which tokenizers refuse, as the encoder does."""
    return (text.encode("utf-8", "replace").decode() for text in texts)
