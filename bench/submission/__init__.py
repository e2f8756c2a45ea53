"""Results that leave the machine: packed with digests, and verified by somebody else, who takes them for hostile input."""
