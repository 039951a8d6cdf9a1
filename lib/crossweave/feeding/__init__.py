"""Tensors between Spark and torch: written and read as Petastorm datasets (the only import of Petastorm)."""
