"""What was answered, and what people said of it: on this machine first, then in the lake exactly once."""
