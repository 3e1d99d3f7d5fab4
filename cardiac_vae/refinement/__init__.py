"""From a segmenter's mask to a plausible one: the refiner, and the baselines it must beat."""
