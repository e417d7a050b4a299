"""The ground floor: what every stage stands on. Nothing here imports a stage."""
