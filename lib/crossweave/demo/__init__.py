"""A generated shop with a known taste structure and known faults, free of any licence (never pyspark, never torch)."""

from crossweave.demo.shop import ShopSummary, generate_shop

__all__ = ["ShopSummary", "generate_shop"]
