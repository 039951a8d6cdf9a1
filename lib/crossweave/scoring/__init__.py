"""Scores users against items: the exact top-K kernel, the loaded model and the reasons."""
