"""The corpus: composed, performed and described music."""
