"""Files: tensors, pickles, weights and settings as they lie on disk."""
