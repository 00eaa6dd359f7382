"""Networks whose layers multiply two linear readings: layers, published training, annealing."""
