"""The command line: ``mediscale`` and its verbs."""
