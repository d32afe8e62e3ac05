"""Language models: low-rank adapters of a base, their evaluation and their promotion."""
