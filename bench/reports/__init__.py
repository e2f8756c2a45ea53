"""Records -> frames -> tables -> CSV, HTML, LaTeX, terminal. Reads JSON only, without torch or plugins."""
