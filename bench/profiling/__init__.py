"""What a training takes, from a short one: seconds by phase and stage, memory, operations, a trace."""
