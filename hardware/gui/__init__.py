"""Browser page for the person beside the robot: scene, panel, take-over. Free of rclpy."""
