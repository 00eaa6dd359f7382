"""The fewest affine rules that reproduce a network: search, merge, score, words."""
