"""What a user gives an analysis: rows and labels, read in one way everywhere, or refused."""
