"""A static site from any number of results folders: which defense stops the attacks, setting by setting."""
