"""The Python interface, which the command line is a skin of: `bench.run`, `bench.load_results`, `bench.evaluate`."""
