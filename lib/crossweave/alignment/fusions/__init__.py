"""Fusions: many modality tokens of an item → one content vector."""
