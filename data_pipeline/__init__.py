"""From an EHR extract to a frozen training set: landing, judging, events, labels, point-in-time features."""
