"""Stage 1, RAPO: retrieval from the relation graph, word augmentation, two rewriting branches, and the choice."""
