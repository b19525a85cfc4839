"""One file per command: each wires a recipe to the stages and holds no method of its own."""
