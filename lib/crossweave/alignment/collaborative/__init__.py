"""Collaborative models: who takes what together, fitted in closed form and blended with the neural model's scores."""
