"""The floor's app once more, answered by waitress and Cardfile's own dispatcher."""

import sys

from bench.twins.floor import app
from server.waitress_server import Waitress, serve_until
from settings import load_settings

if __name__ == "__main__":
    app.config["MAX_CONTENT_LENGTH"] = 1024 * 1024
    server = Waitress(app, load_settings({"port": sys.argv[2]}, {}))
    serve_until(server.signals, server.server, server.sockets)
