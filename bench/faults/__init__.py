"""Long fault runs: what was acknowledged, what was found afterwards, and how long it took."""
