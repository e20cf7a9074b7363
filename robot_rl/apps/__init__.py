"""The command line and the wiring of the parts; the only place where YAML becomes dataclasses."""
