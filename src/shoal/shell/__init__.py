"""The operator's shell: a client of the REST API whose commands come from the same schema data."""
