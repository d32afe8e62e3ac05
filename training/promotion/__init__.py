"""Promotion: the policy, the gate, and the moves of the aliases.

The floors of a task's policy stand in its file, ``data_pipeline/cohort/tasks/<task>.yaml``, those of all tasks in
``shared/promotion_policy.yaml`` there, and those of a language model in ``training/language/policy.yaml``.
"""
