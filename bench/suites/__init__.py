"""Tables and figures of papers as matrices, with the values they publish."""
