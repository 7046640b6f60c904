"""The released models, and how they are fetched."""
