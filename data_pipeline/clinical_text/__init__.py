"""Clinical text as rules read it: folded once, cut into words, spelled right, with negation, experiencer and time."""
