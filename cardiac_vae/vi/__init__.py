"""Variational inference on its own: the mixture of latent codes and the ways to fit it."""
