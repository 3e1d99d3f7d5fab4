"""Fitting: batches by step, the Lightning trainer, the module of the shape models."""
