"""What a stored model is and how it answers, in batch and for one row, without a training library."""
