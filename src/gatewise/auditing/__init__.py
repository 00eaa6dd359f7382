"""The linearity audit: does a network beat a linear model on rows it never saw, and where?"""
