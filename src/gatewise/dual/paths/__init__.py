"""Single paths and units: what each carries of an output, and where two inputs part."""
