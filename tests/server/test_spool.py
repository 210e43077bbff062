"""Large responses are moved to files; some of unknown length are sent while they are made."""

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from werkzeug.wsgi import FileWrapper

from database.connection import TASK
from server.spool import MAX_IN_MEMORY, Spool

LARGE = b"x" * (MAX_IN_MEMORY + 1)


class Stream:
    """A response of unknown length, which notes when it is closed."""

    def __init__(self) -> None:
        self.is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield from (b"1", b"2")

    def close(self) -> None:
        self.is_closed = True


class Task:
    """waitress's task: its client takes the response until it is behind."""

    is_behind = False

    def has_unsent_output(self) -> bool:
        return self.is_behind


def call(spool: Spool, task: Task | None = None) -> Iterable[bytes]:
    return spool({TASK: task or Task()}, lambda *_arguments: None)


def app_with(body: Iterable[bytes], status: str = "200 OK", length: int | None = None) -> Spool:
    def app(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response(status, [] if length is None else [("Content-Length", str(length))])
        return body

    return Spool(app, 1)


@pytest.mark.parametrize(
    ("body", "status", "length"),
    [
        pytest.param([b"small"], "200 OK", 5, id="small-list"),
        pytest.param(Stream(), "200 OK", 2, id="known-length"),
        pytest.param(Stream(), "304 NOT MODIFIED", None, id="no-body"),
    ],
)
def test_a_small_response_is_returned_as_it_is(body: Iterable[bytes], status: str, length: int | None) -> None:
    assert call(app_with(body, status, length)) is body


def test_a_response_of_unknown_length_to_head_gets_none_of_its_empty_body() -> None:
    spool, started = app_with(Stream()), []
    # As while others are streamed, and always on Granian.
    spool.streams.acquire()
    spool({"REQUEST_METHOD": "HEAD"}, lambda *arguments: started.append(arguments))

    assert started == [("200 OK", [])]


def test_a_large_response_is_moved_to_a_file_and_sent_in_pieces() -> None:
    response = call(app_with([LARGE], length=len(LARGE)))

    assert isinstance(response, FileWrapper)
    pieces = list(response)
    assert b"".join(pieces) == LARGE and max(map(len, pieces)) < MAX_IN_MEMORY
    response.close()


def test_a_response_of_unknown_length_is_made_in_a_file_while_another_is_sent() -> None:
    first, second, third = Stream(), Stream(), Stream()
    spool = app_with(first)
    sent = call(spool)
    assert not isinstance(sent, FileWrapper) and not first.is_closed

    spool.app = app_with(second).app
    in_file = call(spool)
    assert isinstance(in_file, FileWrapper) and second.is_closed
    assert list(in_file) == [b"12"]
    in_file.close()

    sent.close()  # type: ignore[attr-defined]
    spool.app = app_with(third).app
    assert first.is_closed and not isinstance(call(spool), FileWrapper)


def test_the_rest_of_a_response_is_moved_to_a_file_once_its_client_is_behind() -> None:
    body, task = Stream(), Task()
    sent = call(app_with(body), task)
    pieces = iter(sent)
    assert next(pieces) == b"1" and not body.is_closed

    task.is_behind = True
    assert next(pieces) == b"2"
    # No snapshot of the database waits for the client.
    assert body.is_closed
    assert list(pieces) == []
    sent.close()  # type: ignore[attr-defined]


def test_without_a_folder_for_temporary_files_a_large_response_stays_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise FileNotFoundError

    monkeypatch.setattr("server.spool.TemporaryFile", fail)
    body = [LARGE]

    assert call(app_with(body, length=len(LARGE))) is body


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.spool.TemporaryFile", lambda: open("/dev/full", "w+b"))  # noqa: SIM115


def test_a_list_is_sent_from_memory_when_the_disk_of_temporary_files_is_full(full_disk: None) -> None:
    body = [LARGE]

    assert call(app_with(body, length=len(LARGE))) is body


def test_a_response_of_unknown_length_is_507_when_the_disk_of_temporary_files_is_full(full_disk: None) -> None:
    spool, stream, started = app_with(Stream()), Stream(), []
    list(call(spool))
    spool.streams.acquire(blocking=False)
    spool.app = app_with(stream).app

    response = spool({TASK: Task()}, lambda *arguments: started.append(arguments[0]))
    assert started == ["507 INSUFFICIENT STORAGE"]
    assert b"There is no room for a temporary file" in b"".join(response)
    assert stream.is_closed


class Broken(Stream):
    """A response that raises an error after its first piece."""

    def __iter__(self) -> Iterator[bytes]:
        yield b"1"
        raise ValueError("damaged")


@pytest.mark.parametrize("streams", [1, 0])
def test_a_response_that_breaks_off_is_500_or_an_error_and_is_logged_with_its_request_id(
    caplog: pytest.LogCaptureFixture, streams: int
) -> None:
    started: list[Any] = []
    body = Broken()

    def app(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("X-Request-Id", "job-7")])
        return body

    response = Spool(app, streams)({TASK: Task()}, lambda *arguments: started.extend(arguments))
    if streams:
        with pytest.raises(ValueError, match="damaged"):
            list(response)
        response.close()  # type: ignore[attr-defined]
    else:
        assert started[0] == "500 INTERNAL SERVER ERROR" and ("X-Request-Id", "job-7") in started[1]
        assert b'"requestId":"job-7"' in b"".join(response)
    assert body.is_closed
    assert "The response to request job-7 was interrupted." in caplog.text


def test_a_response_in_a_file_has_a_length_so_that_a_shorter_one_is_cut() -> None:
    started: list[Any] = []
    response = Spool(app_with(Stream()).app, 0)({}, lambda *arguments: started.extend(arguments))
    response.close()  # type: ignore[attr-defined]

    assert ("Content-Length", "2") in started[1]
