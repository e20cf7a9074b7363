"""From one RGB-D look at a scene to a family of MuJoCo scenes that share what matters."""
