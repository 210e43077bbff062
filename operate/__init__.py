"""Operating the service: checks of its database."""
