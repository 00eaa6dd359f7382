"""A trained network's gates as half-spaces of the input."""
