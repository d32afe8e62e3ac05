"""What is asked: the one reading of a body, by JSON, FHIR or plain names."""
