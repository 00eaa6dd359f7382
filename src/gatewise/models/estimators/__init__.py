"""Networks as scikit-learn estimators: DLGNs and bilinear networks."""
