"""Export of a language version: other forms of it, each loaded back in its own runtime and compared with its parent."""

NAMES = ("adapter", "merged", "gguf", "onnx", "hub", "tensorrt")
"""Every format; ``formats`` says what each is, and imports what the command line's help has no need of."""
