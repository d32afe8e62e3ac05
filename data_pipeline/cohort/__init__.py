"""The cohort of a task: bitemporal events, hospital stays, prediction times and labels."""
