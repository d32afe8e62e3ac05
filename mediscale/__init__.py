"""MediScale: hospital records to served, watched risk models; every step recorded and repeatable."""
