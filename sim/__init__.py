"""MuJoCo worlds: the same `World` protocol that hardware implements over topics, stepped in lockstep."""
