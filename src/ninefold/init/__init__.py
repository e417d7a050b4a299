"""Begin with a table of your own: look at its columns, propose a project, write it. Stands beside the stages."""
