"""open_clip models, created by name with seeded initial weights and saved as safetensors that open_clip can load."""
