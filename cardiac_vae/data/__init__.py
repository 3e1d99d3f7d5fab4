"""Cases: reading, geometry, splits, preparation, and what training does to them."""
