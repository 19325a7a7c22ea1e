"""Video files from the inside: decoding, encoding, containers, and what is wrong with them."""
