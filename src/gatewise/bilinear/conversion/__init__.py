"""A trained network's MLP blocks as bilinear layers, in closed form under the data's moments."""
