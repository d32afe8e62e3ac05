"""Routes by subject, a module each: prediction, language, notes, EHR, feedback, approvals, and the server's own.

What a route takes and answers is declared in ``serving/schemas.py``, ``language_schemas.py`` and ``openai_schemas.py``.
"""
