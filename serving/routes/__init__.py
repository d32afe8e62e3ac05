"""Routes by subject: prediction, and what operates the server."""
