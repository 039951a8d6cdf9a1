"""The colours of series, on every page: mid-tones with a contrast of 3:1 or more on white and on the dark ground."""

OURS = "#3a86c8"
BASELINE = "#8a929e"
PALETTE = (OURS, "#c9741f", "#2f9e77", "#9a6bc9", "#d1566a", "#2596a6", "#918a2c", BASELINE)
