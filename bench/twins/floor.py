"""The floor: a Flask route that does nothing, on waitress with as many threads as Cardfile."""

import sys

from flask import Flask, Response
from waitress import serve

app = Flask("floor", static_folder=None)


@app.route("/<path:_path>", methods=["GET", "POST"])
def answer(_path: str) -> Response:
    return Response("{}", content_type="application/json")


if __name__ == "__main__":
    serve(app, port=int(sys.argv[2]), threads=16, connection_limit=2000, asyncore_use_poll=True)
