"""Drugs: tables of names, classes, doses and interactions from public facts, and what a text names of them."""
