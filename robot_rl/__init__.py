"""Real-robot learning: record, learn with a person in the loop, steer, rank in a twin, deploy."""

__version__ = "0.1.0"
