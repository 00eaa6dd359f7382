"""Which rows of a polyhedron are redundant: searched in floats, proven with bounds or exactly."""
