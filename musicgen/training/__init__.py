"""Training of models. Nothing in this folder is imported to generate music."""
