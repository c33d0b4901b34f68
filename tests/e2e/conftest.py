import pytest

from bellrock_server import Server


@pytest.fixture
def server(tmp_path):
    """A server without configuration, on free ports and an empty data directory."""
    server = Server(tmp_path).start()
    yield server
    server.stop()


@pytest.fixture
def make_server(tmp_path):
    """Makes servers with a configuration of the test's own."""
    made = []

    def make(**options):
        folder = tmp_path / f"server{len(made)}"
        folder.mkdir()
        made.append(Server(folder, **options))
        return made[-1]

    yield make
    for server in made:
        server.stop()
