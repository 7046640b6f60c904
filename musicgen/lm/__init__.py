"""The language model over codes."""
