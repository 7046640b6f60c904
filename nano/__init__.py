"""The bundled models' own corpus, recipes, probes and study."""
