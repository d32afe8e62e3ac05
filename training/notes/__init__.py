"""The BERT note model, fine-tuned under Ray Train."""
