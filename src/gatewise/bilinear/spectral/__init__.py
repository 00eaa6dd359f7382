"""Eigenpairs of interaction matrices without forming them, and what is lost without the rest."""
