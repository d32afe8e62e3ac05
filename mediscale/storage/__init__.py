"""Delta tables, the Spark session, call records and the promotion history: all that is read and written."""
