"""The model service: predictions of versioned models, kept in PostgreSQL, and Evidently's reports on them."""
