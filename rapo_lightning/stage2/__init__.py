"""Stage 2, SSPO: the closed loop of generating, looking, and rewriting."""
