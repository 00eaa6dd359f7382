"""Networks whose gates are decided: frozen, collapsed to one affine map, and that map."""
