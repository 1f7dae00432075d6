"""The typed configuration and how it is composed from YAML and the command line."""
