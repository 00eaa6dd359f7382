"""The polyhedral complex of a network in a box: every region, and what is measured on them."""
