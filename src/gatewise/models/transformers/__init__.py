"""Small transformers whose MLPs multiply, and their training on the next token."""
