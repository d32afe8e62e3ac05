"""Traffic: which version answers whom (canary, shadow, blue and green, A/B), and when servers give a version up."""
