"""IR to files: memory plan, C, project files, report."""
