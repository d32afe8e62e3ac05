"""Which version answers whom: canary and shadow, blue and green, A/B, and when servers give a version up."""
