"""What a census of more rows than this machine holds would cost: rates, simulation, arithmetic."""
