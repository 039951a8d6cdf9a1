"""What stages make beside tables: models and scored vectors, complete or absent, never written to again."""
