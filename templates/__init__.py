"""jinja2 templates. Python decides, the template prints."""
