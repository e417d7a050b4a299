"""The functions of this project. Each is optional: without it the engine uses a default."""
