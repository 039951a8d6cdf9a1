"""The shop's texts: titles, descriptions and tags that give away part of an item's hidden factors."""

from __future__ import annotations

import re

import numpy as np

from crossweave.demo.taste import CATEGORIES, FACTORS, MOODS, PALETTES, STYLES

_WORDS: dict[str, tuple[str, ...]] = {
    "poster": ("poster", "art print", "wall print", "giclée", "sheet for the wall"),
    "record": ("record", "LP sleeve", "twelve-inch", "vinyl", "album"),
    "cushion": ("cushion", "pillow cover", "sofa cushion", "linen cushion", "throw pillow"),
    "mug": ("mug", "stoneware cup", "tea mug", "café cup", "beaker"),
    "notebook": ("notebook", "journal", "sketchbook", "bound diary", "pocket book"),
    "lamp": ("lamp", "table light", "paper shade", "bedside lamp", "lantern"),
    "bauhaus": ("geometric", "modernist", "quarter-circle", "constructed", "grid-built", "primary-shape"),
    "deco": ("fan-patterned", "scalloped", "art déco", "gilded", "streamlined", "arched"),
    "botanical": ("leafy", "fern-strewn", "herbarium", "pressed-flower", "garden", "vine-covered"),
    "nordic": ("zigzag", "fjord-like", "knitted-look", "triangle", "hygge", "Ærø-woven"),
    "sunburst": ("sun-rayed", "seventies", "radiant", "retro", "beaming", "dawn-lit"),
    "terrazzo": ("speckled", "chip-strewn", "confetti", "pebbled", "marble-crumb", "Venetian"),
    "ember": ("rust", "brick red", "burnt orange", "copper", "cinnamon"),
    "lagoon": ("teal", "petrol", "sea green", "turquoise", "deep water blue"),
    "meadow": ("moss", "olive", "leaf green", "fresh grass", "sage"),
    "dusk": ("plum", "violet", "evening pink", "mauve", "aubergine"),
    "sand": ("beige", "oat", "driftwood", "clay", "stone grey"),
    "citrus": ("lemon", "tangerine", "mango", "sunny yellow", "grapefruit"),
    "calm": ("quiet", "slow", "peaceful", "still", "unhurried"),
    "playful": ("playful", "cheeky", "bouncing", "light-hearted", "giggling"),
    "wistful": ("wistful", "rainy-day", "longing", "tender", "autumnal"),
    "bold": ("bold", "loud", "striking", "fearless", "thundering"),
    "dreamy": ("dreamy", "drifting", "moonlit", "hazy", "half-asleep"),
}

_TITLE_NOUNS = (
    "Étude", "Harbour", "Night Train", "Frühling", "Aurora", "Marmalade", "Paper Boat", "Sundial", "Lighthouse",
    "Øresund", "Orchard", "Tin Whistle", "Saudade", "Komorebi 木漏れ日", "Kaleidoscope", "Señorita", "Windmill",
    "Carousel", "Postcard", "Echo", "Parade", "Ferry", "Juniper", "Balcony", "Metronome", "Overture", "Nocturne",
)  # fmt: skip

_OPENERS = (
    "A {mood} {style} {category} in {palette}.",
    "This {category} brings a {style} pattern in {palette} to a {mood} corner.",
    "{style} lines, {palette} ink and a {mood} tune: a {category} with character.",
    "Our {mood} {category}: {style}, and mostly {palette}.",
    "{palette} meets {style} on this {category}, for {mood} afternoons.",
)

_MIDDLES = (
    "Look closely and {palette} turns into something {mood}.",
    "The {style} drawing was made for {mood} rooms.",
    "Its small jingle sounds {mood}, its face looks {style}.",
    "Friends of {palette} and of anything {style} will smile.",
    "As {mood} as a {category} can be.",
)

_NOISE = (
    "Ships flat within three days.", "Made by two people and a dog.", "Keep away from open fire.",
    "Winner of a very small local prize.", "Packed in recycled paper ♻.", "Numbered by hand, № on the back.",
    "Also a fine gift for naïve uncles.", "Printed in a former ferry office.", "Wipes clean with a damp cloth.",
    "Second run after many kind letters.", "Found on a rainy Thursday in Malmö.", "Smells faintly of coffee ☕.",
    "Please measure your shelf first.", "No two are quite alike - that is the point.", "Designed between two trains.",
)  # fmt: skip

_NOISE_TAGS = ("new in", "gift", "last copies", "handmade", "small batch", "under-20", "bestseller?", "für dich")

_TRUTH = 0.85  # share of the descriptive words that come from the item's own factors


def _value_names(factors: np.ndarray) -> tuple[str, str, str, str]:
    category, style, palette, mood = (int(value) for value in factors)
    return CATEGORIES[category], STYLES[style], PALETTES[palette], MOODS[mood]


def _pick(choices: tuple[str, ...], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


def _facts(factors: np.ndarray, rng: np.random.Generator) -> dict[str, str]:
    """Return one word per factor, now and then one of another value: text alone must not tell everything."""
    facts = {}
    for name, values, own in zip(("category", "style", "palette", "mood"), FACTORS, _value_names(factors), strict=True):
        truthful = name == "category" or rng.random() < _TRUTH
        facts[name] = _pick(_WORDS[own if truthful else _pick(values, rng)], rng)
    return facts


def write_title(factors: np.ndarray, rng: np.random.Generator) -> str:
    """Return a title that names the kind of thing and, half of the time, its style or colour."""
    facts = _facts(factors, rng)
    noun = _pick(_TITLE_NOUNS, rng)
    number = int(rng.integers(1, 99))
    forms = (
        f"{noun} {facts['category']} № {number}",
        f"{noun} - {facts['style']} {facts['category']}",
        f"{noun}, {facts['palette']} {facts['category']}",
        f"{facts['mood']} {noun} ({facts['category']})",
    )
    title = _pick(forms, rng)
    return title[0].upper() + title[1:]


def write_description(factors: np.ndarray, rng: np.random.Generator) -> str:
    """Return two to five sentences about the item, mixed with shop talk that says nothing about it."""
    sentences = [_pick(_OPENERS, rng).format(**_facts(factors, rng))]
    for _ in range(int(rng.integers(0, 3))):
        sentences.append(_pick(_MIDDLES, rng).format(**_facts(factors, rng)))
    for index in rng.permutation(len(_NOISE))[: int(rng.integers(1, 3))]:
        sentences.append(_NOISE[index])
    text = " ".join(sentence[0].upper() + sentence[1:] for sentence in sentences)
    return re.sub(r"\b([Aa]) (?=[aeioæ])", r"\1n ", text, flags=re.IGNORECASE)


def write_tags(factors: np.ndarray, rng: np.random.Generator) -> list[str]:
    """Return a few distinct tags, most of them from the style, palette and mood."""
    tags = [name for name in _value_names(factors)[1:] if rng.random() < 0.7]
    if rng.random() < 0.3:
        tags.append(_pick(_pick_values(rng), rng))
    tags.append(_pick(_NOISE_TAGS, rng))
    return sorted(set(tags))


def _pick_values(rng: np.random.Generator) -> tuple[str, ...]:
    return FACTORS[int(rng.integers(1, len(FACTORS)))]
