"""Models by name: recipes, weights, the cache, downloads."""
