"""Slow and obvious answers to compare with; nothing under test is imported here."""
