"""Editing codes: cut and join them, sample a section anew so that it fits what follows, and make loops."""
