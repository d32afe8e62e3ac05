"""Security: principals and roles, API keys, tokens, and what a request must prove before it is answered."""
