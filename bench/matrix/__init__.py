"""From a request to finished records: expand, plan, execute, store."""
