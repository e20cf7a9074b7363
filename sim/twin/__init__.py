"""A simulation that keeps in step with the robot: late measurements, soft welds, particles. Knows nothing of ROS."""
