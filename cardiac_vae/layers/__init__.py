"""Building blocks of the models: distributions, likelihoods, network blocks."""
