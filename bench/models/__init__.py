"""open_clip models: built by name, from scratch, with seeded weights; saved as safetensors that open_clip reads."""
