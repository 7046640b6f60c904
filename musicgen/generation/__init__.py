"""Generation: a request becomes codes."""
