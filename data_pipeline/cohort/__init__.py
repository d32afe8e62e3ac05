"""The cohort of a task: bitemporal events, hospital stays, prediction times and labels.

A task is one file of ``tasks/``: who is at risk, the outcome, the features, the bedside rule and the policy's floors.
"""
