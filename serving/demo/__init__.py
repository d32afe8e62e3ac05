"""A page for people that asks a running server: ``python -m serving.demo``, in an environment of its own."""
