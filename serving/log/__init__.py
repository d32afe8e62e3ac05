"""Logs of answers and of feedback on them: on this machine first, then in the lake exactly once."""
