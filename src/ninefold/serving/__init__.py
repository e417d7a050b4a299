"""A packed model, and the ways to ask it: the bundle, the service, files of rows. Stands on stages up to 07."""
