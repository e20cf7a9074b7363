"""The robot side: guard and mux, arms, cameras, the world over ROS 2, nodes and the browser GUI."""
