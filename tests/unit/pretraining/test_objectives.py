"""What the objectives ask of an encoder, beside transformers' own losses and plain formulas."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import WORDS, tiny_bert

from crossweave.alignment import find
from crossweave.encoders import make_encoder
from crossweave.encoders.huggingface import import_transformers
from crossweave.pretraining.objectives import OBJECTIVES
from crossweave.pretraining.objectives.base import Corpus, Objective, Vocabulary

SPECIAL = frozenset(WORDS.index(word) for word in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"))
VOCABULARY = Vocabulary(len(WORDS), WORDS.index("[MASK]"), SPECIAL)
PADDING = WORDS.index("[PAD]")
FIRST = max(SPECIAL) + 1


FOLDER = tempfile.TemporaryDirectory(prefix="crossweave-objectives-")


@functools.cache
def words() -> Path:
    """Make a tiny BERT, once; a plain function, because hypothesis takes no fixtures."""
    return tiny_bert(Path(FOLDER.name))


@pytest.fixture
def bert() -> Path:
    return words()


def gpt() -> Any:
    transformers = import_transformers()
    torch.manual_seed(2)
    config = transformers.GPT2Config(vocab_size=len(WORDS), n_embd=16, n_layer=2, n_head=2, n_positions=32)
    return transformers.GPT2LMHeadModel(config).eval()


def objective(name: str, network: Any, **own: Any) -> Objective[Any]:
    """Put an objective on a network, with the words of the tiny BERT."""
    kind = find(OBJECTIVES, "objective", name)
    encoder = make_encoder("text", "transformer", {"path": str(words())})
    made: Objective[Any] = kind(encoder, network, kind.Settings(**own), 16)
    return made


def texts(count: int, seed: int = 0) -> list[bytes]:
    """Return texts of 3 to 9 tokens, as BERT has them: [CLS] words [SEP]."""
    draw = np.random.default_rng(seed)
    bodies = [draw.integers(FIRST, len(WORDS), draw.integers(1, 8)) for _ in range(count)]
    return [np.array([2, *body, 3], np.int32).tobytes() for body in bodies]


@settings(deadline=None, max_examples=50)
@given(share=st.floats(0.05, 0.5), count=st.integers(1, 12), seed=st.integers(0, 99))
def test_of_every_text_a_word_is_hidden_and_never_padding_or_a_mark(share: float, count: int, seed: int) -> None:
    own: Any = objective("masked", import_transformers().AutoModel.from_pretrained(str(words())), share=share)
    some = texts(count, seed)
    batch = own.draw(Corpus(some), np.arange(count), np.random.default_rng(seed))
    before = own.inputs(some)[0]
    hidden = batch.hidden_BT
    assert hidden.any(dim=1).all()
    assert not np.isin(before[hidden].numpy(), list(SPECIAL)).any()
    assert torch.equal(batch.words_H, before[hidden])
    assert torch.equal(batch.texts[0][~hidden], before[~hidden])


def test_a_batch_of_the_same_draw_is_the_same_and_most_hidden_words_are_masked(bert: Path) -> None:
    masked = objective("masked", import_transformers().AutoModel.from_pretrained(str(bert)), share=0.5)
    some = texts(400)
    one, same, other = (masked.draw(Corpus(some), np.arange(400), np.random.default_rng(n)) for n in (1, 1, 2))
    assert torch.equal(one.texts[0], same.texts[0])
    assert torch.equal(one.hidden_BT, same.hidden_BT)
    assert not torch.equal(one.hidden_BT, other.hidden_BT)
    shown = one.texts[0][one.hidden_BT]
    assert 0.75 < (shown == VOCABULARY.mask).float().mean() < 0.85
    assert 0.09 < (shown == one.words_H).float().mean() < 0.16  # 1 of 10 stays, and a word may be drawn for itself


def test_the_masked_loss_is_that_of_transformers(bert: Path) -> None:
    whole = import_transformers().BertForMaskedLM.from_pretrained(str(bert)).eval()
    masked = objective("masked", whole.bert)
    told = whole.cls.predictions
    masked.head.transform[0].load_state_dict(told.transform.dense.state_dict())
    masked.head.transform[2].load_state_dict(told.transform.LayerNorm.state_dict())
    masked.head.transform[2].eps = told.transform.LayerNorm.eps
    masked.head.bias_V.data.copy_(told.decoder.bias.data)
    batch = masked.draw(Corpus(texts(9)), np.arange(9), np.random.default_rng(3))
    labels = torch.full_like(batch.texts[0], -100)
    labels[batch.hidden_BT] = batch.words_H
    own = whole(input_ids=batch.texts[0], attention_mask=batch.texts[1].long(), labels=labels).loss
    assert masked(batch).item() == pytest.approx(own.item(), rel=1e-5)


def test_the_causal_loss_is_that_of_transformers() -> None:
    whole = gpt()
    causal = objective("causal", whole.transformer)
    batch = causal.draw(Corpus(texts(9)), np.arange(9), np.random.default_rng(3))
    labels = batch[0].masked_fill(~batch[1], -100)
    own = whole(input_ids=batch[0], attention_mask=batch[1].long(), labels=labels).loss
    assert causal(batch).item() == pytest.approx(own.item(), rel=1e-5)


def test_the_behaviour_loss_is_its_formula(bert: Path) -> None:
    behaviour = objective("behaviour", import_transformers().AutoModel.from_pretrained(str(bert)).eval(), items=8)
    corpus = Corpus(texts(12), [np.array([0, 3, 5]), np.array([1, 2]), np.array([5, 7, 8])])
    batch = behaviour.draw(corpus, np.arange(3), np.random.default_rng(1))
    assert batch.taken_UN.shape == (3, 8)
    with torch.no_grad():
        states = behaviour.encoder.states(behaviour.network, *batch.contents).numpy()
        loss = behaviour(batch).item()
    mask = batch.contents[1].numpy()[..., None]
    a = (states * mask).sum(1) / mask.sum(1)
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    x = batch.taken_UN.numpy()
    y = x @ (a @ a.T - np.eye(8))
    parts = [
        np.square(row / np.linalg.norm(row) - told / np.linalg.norm(told)).sum()
        for row, told in zip(x, y, strict=True)
        if row.sum() > 1
    ]
    assert loss == pytest.approx(np.mean(parts), rel=1e-4)


def test_users_of_one_item_and_texts_of_one_word_are_nothing_to_learn_from() -> None:
    encoder = gpt().transformer
    corpus = Corpus(
        [np.array([4], np.int32).tobytes(), np.array([4, 5], np.int32).tobytes()], [np.array([0]), np.array([0, 1])]
    )
    assert objective("causal", encoder).examples(objective("causal", encoder).usable(corpus)) == 1
    behaviour = objective("behaviour", encoder)
    assert behaviour.examples(behaviour.usable(corpus)) == 1


def test_more_items_than_fit_are_drawn_and_each_is_there_once() -> None:
    behaviour = objective("behaviour", gpt().transformer, items=8)
    corpus = Corpus(texts(40), [np.arange(0, 30), np.arange(20, 40)])
    batch = behaviour.draw(corpus, np.arange(2), np.random.default_rng(4))
    assert batch.taken_UN.shape == (2, 8)
    assert batch.taken_UN.any(dim=0).all()  # all of them are somebody's, since there are enough
    few = objective("behaviour", gpt().transformer, items=64).draw(corpus, np.arange(2), np.random.default_rng(4))
    assert few.taken_UN.shape == (2, 40)
    assert few.taken_UN.sum(dim=1).tolist() == [30, 20]


@pytest.mark.parametrize("name", ["masked", "causal", "behaviour"])
def test_steps_make_the_loss_of_examples_that_were_not_shown_smaller(name: str, bert: Path) -> None:
    """Texts are of two themes; words of one never stand beside those of the other, and no user takes both."""
    torch.manual_seed(0)
    causal = name == "causal"
    encoder = gpt().transformer if causal else import_transformers().AutoModel.from_pretrained(str(bert))
    chosen = objective(name, encoder, **({"items": 16} if name == "behaviour" else {}))
    draw = np.random.default_rng(0)
    themes = [np.arange(FIRST, FIRST + 4), np.arange(FIRST + 4, len(WORDS))]
    some = [np.array([2, *draw.choice(themes[i % 2], 6), 3], np.int32).tobytes() for i in range(80)]
    users = [draw.choice(np.arange(start, 80, 2), 6, replace=False) for start in (0, 1) * 30]
    corpus = chosen.usable(Corpus(some, users))
    held_out = np.arange(chosen.examples(corpus) - 20, chosen.examples(corpus))
    judged = chosen.draw(corpus, held_out, np.random.default_rng(9))
    chosen.eval()
    with torch.no_grad():
        before = chosen(judged).item()
    chosen.train()
    optimizer = torch.optim.AdamW(chosen.parameters(), lr=5e-3)
    for step in range(120):
        optimizer.zero_grad()
        batch = chosen.draw(corpus, draw.choice(held_out[0], 16, replace=False), np.random.default_rng(step))
        chosen(batch).backward()
        optimizer.step()
    chosen.eval()
    with torch.no_grad():
        after = chosen(judged).item()
    assert after < 0.9 * before


def test_padding_changes_no_loss() -> None:
    causal = objective("causal", gpt().transformer)
    batch = causal.draw(Corpus(texts(5)), np.arange(5), np.random.default_rng(0))
    wider = (
        torch.nn.functional.pad(batch[0], (0, 3), value=PADDING),
        torch.nn.functional.pad(batch[1], (0, 3)),
    )
    assert causal(wider).item() == pytest.approx(causal(batch).item(), rel=1e-5)
