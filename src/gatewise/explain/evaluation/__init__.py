"""How accurate, how faithful, how relevant an explanation is, beside its peers."""
