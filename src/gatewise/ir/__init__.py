"""The object every analysis reads: four kinds of node, a frozen Network, its patterns, its walk."""
