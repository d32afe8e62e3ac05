"""Values that every package shares: settings, errors, references, table declarations, tasks, small-cell suppression."""
