"""Things to put into scenes: parametric generators, models of installed packages, a user's own files."""
