"""Densities over the codes of a shape model: fitted after it, for drawing and for judging."""
