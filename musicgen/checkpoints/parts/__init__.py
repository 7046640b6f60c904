"""Parts of a model: codec, text encoder, style, MERT, and where they lie."""
