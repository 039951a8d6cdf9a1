"""How encoders learn the catalog before they encode it: by which objectives, and which of their weights may change."""
