"""User towers: a history of item vectors → one user vector."""
