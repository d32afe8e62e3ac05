"""Answers of language models: the versions that are served, their engines, quotations and checks, part by part."""
