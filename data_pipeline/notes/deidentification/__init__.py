"""De-identification of clinical notes: detection of PHI and its replacement by surrogates."""
