"""Governance: what an auditor asks of a home, such as to rebuild a version, trace a patient, or erase one."""
