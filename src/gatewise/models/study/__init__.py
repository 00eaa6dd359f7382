"""Gradient descent on thousands of deep linear chains at once, through second moments alone."""
