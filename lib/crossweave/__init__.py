"""Crossweave: a nightly batch job that turns a catalog into embeddings and recommendations."""

__version__ = "0.1.0"
