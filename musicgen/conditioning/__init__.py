"""Conditions: from strings and sounds to the tensors that the language model is conditioned on."""
