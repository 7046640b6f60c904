"""EnCodec: sound to codes and back."""
