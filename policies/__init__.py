"""What maps observations (and goals) to actions."""
