"""Losses: of alignment (over modality tokens) and of behaviour (over user–item scores)."""
