"""The floor: waitress with a Flask route that does nothing, under the settings that Cardfile serves with."""

import sys

from flask import Flask, Response
from server.cores import ONE_CORE, run_on
from waitress import serve

app = Flask("floor", static_folder=None)


@app.route("/<path:_path>", methods=["GET", "POST"])
def nothing(_path: str) -> Response:
    return Response("{}", content_type="application/json")


if __name__ == "__main__":
    run_on(ONE_CORE)
    serve(app, port=int(sys.argv[2]), threads=8, connection_limit=2000, asyncore_use_poll=True)
