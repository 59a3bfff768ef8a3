"""What the demonstration runs: the router's own chat guide, example by example."""
