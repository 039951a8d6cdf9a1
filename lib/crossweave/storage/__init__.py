"""Where bytes lie: the only room that knows. Everything in a workspace or an input has a `Location`."""
