"""Recommender heads: a user vector and an item vector → a score."""
