"""The Python interface behind the command line: `bench.run`, `bench.load_results`, `bench.evaluate`."""
