"""How well two masks, or two lists of clinical values, agree; arrays in, numbers out."""
