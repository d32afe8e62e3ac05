"""Promotion: the policy, the gate, and the moves of the aliases."""
