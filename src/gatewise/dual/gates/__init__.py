"""The gates themselves: how alike they are, how they fit labels, and the half-spaces they are."""
