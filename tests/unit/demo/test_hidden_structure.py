"""The hidden structure shows: in behaviour, in every modality, and not so plainly that nothing is left to learn."""

from collections.abc import Callable

import numpy as np
import pytest

from crossweave.demo.blueprint import plan_shop
from crossweave.demo.pictures import draw_picture
from crossweave.demo.sounds import play
from crossweave.demo.taste import FACTORS, MOODS, PALETTES, Taste, draw_taste, stream, style_vectors
from crossweave.demo.words import write_description, write_tags

CATEGORY, STYLE, PALETTE, MOOD = range(4)
ITEMS = 240


@pytest.fixture(scope="module")
def taste() -> Taste:
    return draw_taste(ITEMS, 200, seed=17)


def _lift(features_ND: np.ndarray, values_N: np.ndarray) -> float:
    """How much more often than chance an item and its nearest neighbour share the value."""
    centred_ND = features_ND - features_ND.mean(axis=0)
    centred_ND = centred_ND / (np.linalg.norm(centred_ND, axis=1, keepdims=True) + 1e-9)
    likeness_NN = centred_ND @ centred_ND.T
    np.fill_diagonal(likeness_NN, -np.inf)
    shared = (values_N[likeness_NN.argmax(axis=1)] == values_N).mean()
    return float(shared / ((np.bincount(values_N) / len(values_N)) ** 2).sum())


def _features(taste: Taste, name: str, describe: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> np.ndarray:
    return np.stack([describe(factors, stream(5, name, index)) for index, factors in enumerate(taste.factors)])


@pytest.mark.parametrize("factor", [CATEGORY, STYLE, PALETTE, MOOD])
def test_style_vectors_carry_every_factor_but_none_of_them_perfectly(taste: Taste, factor: int) -> None:
    values = taste.factors[:, factor]
    assert 1.8 < _lift(style_vectors(taste.factors, seed=17), values) < 0.95 * len(FACTORS[factor])


def test_pictures_carry_palette_style_and_category(taste: Taste) -> None:
    def thumbnail(factors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        picture = np.asarray(draw_picture(factors, rng).resize((32, 32)), dtype=float)
        colours = np.bincount((picture // 64).reshape(-1, 3).astype(int) @ [16, 4, 1], minlength=64)
        dark_DD = picture.mean(axis=2)
        edges = np.histogram2d(*(np.gradient(dark_DD)[axis].ravel() for axis in (0, 1)), bins=8, range=[[-64, 64]] * 2)
        return np.concatenate([np.sqrt(colours), dark_DD.ravel() / 8, np.sqrt(edges[0].ravel())])

    features_ND = _features(taste, "pictures", thumbnail)
    colours_ND, outline_ND, edges_ND = features_ND[:, :64], features_ND[:, 64:-64], features_ND[:, -64:]
    assert _lift(colours_ND, taste.factors[:, PALETTE]) > 4
    assert _lift(outline_ND, taste.factors[:, CATEGORY]) > 2.5
    assert _lift(edges_ND, taste.factors[:, STYLE]) > 1.5


def test_sounds_carry_the_mood(taste: Taste) -> None:
    def spectrum(factors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        samples = play(int(factors[MOOD]), rng)
        frames = samples[: len(samples) // 512 * 512].reshape(-1, 512) * np.hanning(512)
        return np.log(np.abs(np.fft.rfft(frames)) + 1e-2).mean(axis=0)

    assert _lift(_features(taste, "sounds", spectrum), taste.factors[:, MOOD]) > 2.5


@pytest.mark.parametrize("write", [write_description, lambda factors, rng: " ".join(write_tags(factors, rng))])
@pytest.mark.parametrize("factor", [STYLE, PALETTE, MOOD])
def test_texts_and_tags_carry_part_of_style_palette_and_mood(
    taste: Taste, write: Callable[[np.ndarray, np.random.Generator], str], factor: int
) -> None:
    texts = [set(write(row, stream(5, "words", index)).lower().split()) for index, row in enumerate(taste.factors)]
    vocabulary = sorted(set().union(*texts))
    words_NW = np.array([[word in text for word in vocabulary] for text in texts], dtype=float)
    rarity_W = np.log(len(texts) / words_NW.sum(axis=0))
    assert 1.2 < _lift(words_NW * rarity_W, taste.factors[:, factor]) < 0.9 * len(FACTORS[factor])


def test_a_palette_looks_like_its_name() -> None:
    def mean_colour(palette: str) -> np.ndarray:
        factors = [np.array([0, style, PALETTES.index(palette), 0]) for style in range(6)]
        pictures = [np.asarray(draw_picture(row, stream(1, "pictures", row[STYLE])), dtype=float) for row in factors]
        return np.mean([picture.mean(axis=(0, 1)) for picture in pictures], axis=0)

    red, green, blue = mean_colour("ember")
    assert red > green + 15 > blue + 20
    red, green, blue = mean_colour("meadow")
    assert green > red
    assert green > blue + 15
    red, green, blue = mean_colour("lagoon")
    assert red < min(green, blue) - 10


def test_a_playful_jingle_is_brighter_than_a_calm_one() -> None:
    def brightness(mood: str) -> float:
        spectrum = np.abs(np.fft.rfft(play(MOODS.index(mood), stream(1, "sounds")), n=20_000)) ** 2
        return float((spectrum * np.arange(len(spectrum))).sum() / spectrum.sum())

    assert brightness("playful") > 1.3 * brightness("calm")


def test_neighbours_by_behaviour_beat_popularity_on_held_out_purchases() -> None:
    plan = plan_shop(items=300, users=300, interactions=7500, seed=17)
    user, item = plan.picks.user, plan.picks.item
    held_out = np.random.default_rng(0).random(len(user)) < 0.2
    seen_UN, wanted_UN = np.zeros((300, 300)), np.zeros((300, 300))
    seen_UN[user[~held_out], item[~held_out]] = 1
    wanted_UN[user[held_out], item[held_out]] = 1

    def ndcg(scores_UN: np.ndarray) -> float:
        top_UK = np.argsort(-np.where(seen_UN > 0, -np.inf, scores_UN), axis=1)[:, :10]
        discount_K = 1 / np.log2(np.arange(2, 12))
        gain_U = (np.take_along_axis(wanted_UN, top_UK, axis=1) * discount_K).sum(axis=1)
        relevant_U = wanted_UN.sum(axis=1).astype(int)
        ideal_U = np.concatenate([[0.0], discount_K.cumsum()])[relevant_U.clip(max=10)]
        return float((gain_U[relevant_U > 0] / ideal_U[relevant_U > 0]).mean())

    together_NN = seen_UN.T @ seen_UN
    norm_N = np.sqrt(np.diag(together_NN)) + 1e-9
    np.fill_diagonal(together_NN, 0)
    neighbours = ndcg(seen_UN @ (together_NN / norm_N[:, None] / norm_N))
    popularity = ndcg(np.tile(seen_UN.sum(axis=0), (300, 1)))
    assert neighbours > 1.5 * popularity
    assert popularity > 1.2 * ndcg(np.random.default_rng(1).random((300, 300)))


def test_ratings_follow_the_taste() -> None:
    plan = plan_shop(items=100, users=50, interactions=1500, seed=17)
    liking = np.array(
        [plan.taste.liking(user)[item] for user, item in zip(plan.picks.user, plan.picks.item, strict=True)]
    )
    assert np.corrcoef(liking, plan.picks.rating)[0, 1] > 0.4


def test_popularity_is_long_tailed() -> None:
    plan = plan_shop(items=300, users=300, interactions=7500, seed=17)
    counts = np.sort(np.bincount(plan.picks.item, minlength=300))[::-1]
    assert counts[:60].sum() > 0.35 * counts.sum()
    assert np.bincount(plan.picks.user).max() <= 5 * 7500 / 288 + 1
