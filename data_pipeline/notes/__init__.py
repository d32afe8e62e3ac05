"""Clinical notes: de-identification, tokenization, and which note was visible when."""
