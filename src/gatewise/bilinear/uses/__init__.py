"""What a quadratic network says of a row: contributions, curvature, masks."""
