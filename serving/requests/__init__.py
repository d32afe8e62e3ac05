"""Requests: the one reading of a body of JSON, FHIR or plain names."""
