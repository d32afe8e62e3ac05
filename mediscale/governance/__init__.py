"""What an auditor asks of a home: to rebuild a version, to follow a patient or a prediction, to take a patient out."""
