"""Making models. Nothing here is imported when music is made."""
