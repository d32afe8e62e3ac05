"""Who may ask: principals with their roles, API keys, tokens, and what a request must prove before it is answered."""
