"""Live pictures: where they come from, a network that keeps up, and who watches."""
