"""Numbers as the report writes them."""

from __future__ import annotations

import math

THIN_SPACE = "\u202f"  # narrow and unbreakable
NOTHING = "–"
_ACRONYMS = {"ndcg": "NDCG", "mrr": "MRR", "map": "MAP", "auc": "AUC", "f1": "F1", "rmse": "RMSE", "mae": "MAE"}


def format_metric(value: float | None, signed: bool = False) -> str:
    """Write a metric with 4 decimals and a true minus sign; a dash for None or a non-finite value."""
    if value is None or not math.isfinite(value):
        return NOTHING
    text = f"{abs(value):.4f}"
    if float(text) == 0.0:
        return text
    return ("−" if value < 0 else "+" if signed else "") + text


def format_curve_value(value: float) -> str:
    """Write a point of a curve like a metric, or with an exponent where 4 decimals would hide it (a learning rate)."""
    return f"{value:.1e}".replace("-", "−") if 0 < abs(value) < 0.001 else format_metric(value)


def format_count(value: int | None) -> str:
    """Write a whole number in groups of three with thin spaces; a dash for None."""
    return NOTHING if value is None else f"{value:,}".replace(",", THIN_SPACE).replace("-", "−")


def format_seconds(seconds: float | None) -> str:
    """Write a duration (seconds) in the unit a reader would say it in; a dash for None or a non-finite value."""
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return NOTHING
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f}{THIN_SPACE}ms"
    if seconds < 9.95:
        return f"{seconds:.1f}{THIN_SPACE}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{THIN_SPACE}s"
    if whole < 3600:
        return f"{whole // 60}{THIN_SPACE}min {whole % 60:02d}{THIN_SPACE}s"
    minutes = round(seconds / 60)
    return f"{minutes // 60}{THIN_SPACE}h {minutes % 60:02d}{THIN_SPACE}min"


def format_share(share: float, signed: bool = False) -> str:
    """Write a share of 1 as whole percent; a dash for a non-finite one."""
    if not math.isfinite(share):
        return NOTHING
    percent = round(abs(share) * 100)
    sign = "" if percent == 0 else "−" if share < 0 else "+" if signed else ""
    return f"{sign}{percent}{THIN_SPACE}%"


def format_score(score: float) -> str:
    """Write a model score with 3 decimals and a true minus sign; a dash for a non-finite one."""
    return f"{score:.3f}".replace("-", "−") if math.isfinite(score) else NOTHING


def format_points(points: float) -> str:
    """Write what is added to a score, with its sign; a dash for a non-finite one."""
    if not math.isfinite(points):
        return NOTHING
    text = f"{abs(points):.2f}"
    return text if float(text) == 0.0 else f"{'−' if points < 0 else '+'}{text}"


def format_metric_name(name: str) -> str:
    """Write "ndcg@20" as "NDCG@20" and "hit_rate" as "Hit rate"."""
    stem, at, k = name.partition("@")
    words = stem.replace("_", " ")
    return _ACRONYMS.get(stem.lower(), words[:1].upper() + words[1:]) + at + k
