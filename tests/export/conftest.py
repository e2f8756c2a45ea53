from tests.e2e.conftest import bench  # noqa: F401  a fixture
