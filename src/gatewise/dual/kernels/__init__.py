"""The neural path kernel: exactly on any gated network, and fast on fully connected ones."""
