"""Documents and questions: what a language model learns from, quotes and is asked."""
