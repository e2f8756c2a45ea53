"""Records -> frames -> tables -> CSV, HTML, terminal. Reads JSON only: no torch, no plugins."""
