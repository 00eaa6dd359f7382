"""One region and what lies around it, in any number of inputs: facets, neighbours, walks, balls."""
