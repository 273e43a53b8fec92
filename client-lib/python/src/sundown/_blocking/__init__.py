"""The blocking calls: `sundown` has their names."""
