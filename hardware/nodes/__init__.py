"""Thin ROS 2 nodes: parameters, messages, timers. The logic they carry lives one level up."""
