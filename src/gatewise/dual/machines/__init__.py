"""Kernel machines on the neural path kernel, and what the gates of a network know."""
