"""How the shipped ball-screw model was trained."""
