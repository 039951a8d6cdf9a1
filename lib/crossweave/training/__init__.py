"""Trains the alignment model on all ranks; `collective.py` is the only import of Horovod."""
