"""The floor once more: a Flask route that does nothing, answered by waitress and Cardfile's own dispatcher."""

import sys

from flask import Flask, Response

from auth import API
from commands.waitress_server import Waitress, serve_until
from settings import load_settings

app = Flask("floor", static_folder=None)
app.config["MAX_CONTENT_LENGTH"] = 1024 * 1024


@app.route(f"{API}/<path:_path>")
def nothing(_path: str) -> Response:
    return Response("{}", content_type="application/json")


if __name__ == "__main__":
    server = Waitress(app, load_settings({"port": sys.argv[2]}, {}))
    serve_until(server.signals, server.server, server.sockets)
