"""From needs and evidence to a choice: requirements, weighted matrix, technical spec, project scaffold."""
