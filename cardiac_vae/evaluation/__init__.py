"""Honest evaluation: score each case, summarize per patient, score a shape model."""
