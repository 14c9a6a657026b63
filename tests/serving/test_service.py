"""The service as its clients meet it: answers, limits, load, bad and slow clients, its end."""

from __future__ import annotations

import asyncio
import io
import re
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import msgspec
import numpy as np
import pytest
from commands import EXAMPLES, content, photo, posepipe, start
from PIL import Image
from serving.conftest import SECONDS, Running, png, running

from posepipe.errors import OptionError
from posepipe.io.documents import read_keypoints
from posepipe.pipeline import Pipeline
from posepipe.serving import server as server_module
from posepipe.serving.options import ServeOptions

Serve = Callable[..., Running]


def post(service: Running, data: bytes, path: str = "/poses") -> httpx.Response:
    return service.client.post(path, content=data)


# --- answers


def test_an_answer_is_what_a_run_writes(tmp_path: Path) -> None:
    image = photo(tmp_path / "pictures" / "a.jpg")
    output = tmp_path / "kps.json"
    result = posepipe("run", image, "-o", output, "--device=cpu", "--precision=fp32")
    assert result.exit_code == 0
    with running(Pipeline(device="cpu", precision="fp32").load()) as service:
        answer = post(service, image.read_bytes(), "/poses?file_name=a.jpg&image_id=1")
        drawn = post(service, image.read_bytes(), "/draw?format=png")
    (expected,), (found,) = content(output), answer.json()
    assert found.keys() == expected.keys()
    np.testing.assert_allclose(found["keypoints"], expected["keypoints"], atol=0.01)
    assert found["score"] == pytest.approx(expected["score"], abs=1e-4)
    assert (found["file_name"], found["image_id"]) == ("a.jpg", 1)
    (tmp_path / "answer.json").write_bytes(answer.content)  # which is a kps.json itself
    assert len(read_keypoints(tmp_path / "answer.json", images=tmp_path / "pictures").poses) == 1
    assert drawn.headers["content-type"] == "image/png"
    with Image.open(image) as before, Image.open(io.BytesIO(drawn.content)) as after:
        changed = (np.asarray(before) != np.asarray(after)).any(axis=2).mean()
    assert 0.01 < changed < 0.5


def test_the_service_says_what_it_is_and_counts(serve: Serve) -> None:
    service = serve()
    assert service.client.get("/health").json() == {"state": "ok", "version": "1"}
    assert post(service, png(5)).json()[0]["score"] == 5e-6
    assert post(service, png(), "/draw").headers["content-type"] == "image/jpeg"
    assert service.client.get("/nothing").status_code == 404
    assert service.metric("posepipe_requests_total", path="/poses", status="200") == 1
    assert service.metric("posepipe_requests_total", path="other", status="404") == 1
    assert service.metric("posepipe_people_total") == 2
    assert service.metric("posepipe_batch_images_sum") == 2
    described = service.client.get("/openapi.json").json()["paths"]
    assert set(described) == {"/poses", "/draw", "/health", "/metrics"}
    assert "image/*" in described["/poses"]["post"]["requestBody"]["content"]
    assert {"200", "408", "413", "422", "429", "503"} <= set(
        described["/draw"]["post"]["responses"]
    )


def test_the_interactive_page_needs_no_other_server(serve: Serve) -> None:
    client = serve().client
    page = client.get("/docs").text
    parts = re.findall(r"""(?:src|href|url)[=:] *["']([^"']+)""", page)
    assert len(parts) >= 4
    for part in parts:
        assert part.startswith("/")
        assert not part.startswith("//")
        assert client.get(part).status_code == 200


def test_a_page_elsewhere_cannot_ask_under_its_own_name(serve: Serve) -> None:
    service = serve()
    for host, status in (("localhost", 200), ("evil.example", 400)):
        headers = {"Host": f"{host}:{service.port}"}
        assert service.client.get("/health", headers=headers).status_code == status


# --- load


@pytest.mark.slow
def test_hundreds_of_parallel_requests_are_answered_each_with_its_own(serve: Serve) -> None:
    service = serve(together=8, max_delay=0.02)
    wave, address = 150, f"http://127.0.0.1:{service.port}/poses"

    async def all_at_once() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=100)
        async with httpx.AsyncClient(limits=limits, timeout=SECONDS) as client:
            calls = (
                client.post(f"{address}?image_id={n}", content=png(n, 64, 48)) for n in range(wave)
            )
            return await asyncio.gather(*calls)

    memory = []
    for _ in range(3):
        answers = asyncio.run(all_at_once())
        assert [answer.status_code for answer in answers] == [200] * wave
        found = [answer.json()[0] for answer in answers]
        assert [(one["image_id"], one["score"]) for one in found] == [
            (n, n / 1e6) for n in range(wave)
        ]
        memory.append(service.metric("process_resident_memory_bytes"))
    assert sum(service.people.batches) == 3 * wave
    assert max(service.people.batches) == 8  # several requests in one batch
    assert len(service.people.batches) < 2 * wave
    assert service.is_idle()
    assert memory[2] - memory[1] < 20e6
    assert service.lines == []


def test_who_finds_no_place_is_turned_away_and_the_others_are_answered(serve: Serve) -> None:
    service = serve(ready=False, queue=2)
    with ThreadPoolExecutor(2) as clients:
        waiting = [clients.submit(post, service, png(n)) for n in range(2)]
        service.wait_until(lambda: service.metric("posepipe_requests_at_work") == 2)
        refused = post(service, png(9))
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert service.client.get("/health").status_code == 200
        service.people.go.set()
        assert [call.result().status_code for call in waiting] == [200, 200]
    assert post(service, png(9)).status_code == 200


def test_bytes_have_an_end_as_well(serve: Serve) -> None:
    service = serve(queue_bytes=10_000)
    image = png(1, 50, 50)  # 7,500 bytes of pixels
    assert post(service, image).status_code == 200
    assert post(service, png(1, 60, 60)).status_code == 429
    assert service.is_idle()


# --- bad images


def bomb() -> bytes:
    """A PNG of 58 bytes whose header promises 30000x30000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")


def large(kind: str) -> bytes:
    """A small file of a large image: 64 million pixels of one colour."""
    file = io.BytesIO()
    compression = {"compression": "group4"} if kind == "TIFF" else {}
    Image.new("1", (8_000, 8_000)).save(file, kind, **compression)
    assert len(file.getvalue()) < 1e6
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        (b"", 422, "is empty (0 bytes)"),
        (b"hello", 422, "is not an image in a known format"),
        ((EXAMPLES / "astronaut.jpg").read_bytes()[:20_000], 422, "is damaged or truncated"),
        (bomb(), 413, "is too large to be read safely"),
        (large("PNG"), 413, "64,000,000 pixels, more than 50,000,000"),
        (large("TIFF"), 413, "64,000,000 pixels, more than 50,000,000"),
        (bytes(20_000_001), 413, "more than 20,000,000 bytes"),
    ],
    ids=["empty", "text", "truncated", "header", "png bomb", "tiff bomb", "long"],
)
def test_a_bad_image_is_refused_and_costs_nothing(
    data: bytes, status: int, words: str, serve: Serve
) -> None:
    service = serve()
    before = service.metric("process_resident_memory_bytes")
    answer = post(service, data)
    assert answer.status_code == status
    assert words in answer.json()["detail"]
    assert service.metric("process_resident_memory_bytes") - before < 60e6
    assert post(service, png()).status_code == 200
    assert service.is_idle()
    assert service.lines == []


def test_an_image_that_breaks_the_networks_spoils_no_other(serve: Serve) -> None:
    service = serve(ready=False, fails_on=1)
    with ThreadPoolExecutor(4) as clients:
        calls = [clients.submit(post, service, png(n)) for n in range(4)]
        service.wait_until(lambda: service.metric("posepipe_requests_at_work") == 4)
        service.people.go.set()
        assert [call.result().status_code for call in calls] == [200, 500, 200, 200]
    assert service.metric("posepipe_requests_total", path="/poses", status="500") == 1
    assert service.lines == ["Exception in ASGI application: RuntimeError: this image alone"]
    assert service.is_idle()


# --- bad clients


def connect(service: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), timeout=SECONDS)


def header(length: int, path: str = "/poses") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode()


def test_an_upload_that_ends_too_soon_gives_its_place_back(serve: Serve) -> None:
    service = serve(queue=1)
    for _ in range(3):
        with connect(service) as client:
            client.sendall(header(10_000) + bytes(1000))
            service.wait_until(lambda: service.metric("posepipe_held_bytes") == 1000)
        service.wait_until(service.is_idle)
    assert post(service, png()).status_code == 200
    assert service.lines == []


def test_a_body_that_drips_is_given_up(serve: Serve) -> None:
    service = serve(timeout=0.3, queue=1)
    with connect(service) as client:
        client.sendall(header(1000) + b"x")
        assert client.recv(1000).startswith(b"HTTP/1.1 408 ")
    service.wait_until(service.is_idle)


def test_a_header_that_drips_is_given_up(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_HEADER_SECONDS", 0.3)
    service = serve()
    with connect(service) as silent, connect(service) as dripping:
        begun = time.monotonic()
        while time.monotonic() - begun < SECONDS:
            try:
                dripping.sendall(b"P")
            except OSError:
                break
            time.sleep(0.05)
        assert time.monotonic() - begun < SECONDS / 2
        assert silent.recv(10) == b""
    with connect(service) as patient:  # between two requests it may wait longer
        for _ in range(2):
            patient.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            received = b""
            while not received.endswith(b"}"):
                received += patient.recv(1000)
            assert received.startswith(b"HTTP/1.1 200 ")
            time.sleep(0.5)


def test_an_answer_that_nobody_reads_is_given_up(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "_READING_SECONDS", 0.5)
    service = serve(queue=1)
    noise = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG", compress_level=0)
    with connect(service) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        client.sendall(header(len(file.getvalue()), "/draw?format=png") + file.getvalue())
        service.wait_until(
            lambda: service.metric("posepipe_requests_total", path="/draw", status="200") == 1
        )
        time.sleep(1.5)  # three times as long as the service waits
        read = 0
        with suppress(OSError):
            while part := client.recv(2**16):
                read += len(part)
        assert 0 < read < len(file.getvalue()) - 10**6  # what the system's buffers had taken
    assert post(service, png()).status_code == 200


def test_an_answer_that_takes_too_long_is_given_up(serve: Serve) -> None:
    service = serve(ready=False, timeout=0.3)
    answer = post(service, png())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert service.is_idle()
    service.people.go.set()
    service.wait_until(lambda: post(service, png()).status_code == 200)


# --- the end


def test_the_end_waits_for_the_requests_at_work(serve: Serve) -> None:
    service = serve(ready=False)
    with ThreadPoolExecutor(3) as clients:
        calls = [clients.submit(post, service, png(n)) for n in range(3)]
        service.wait_until(lambda: service.metric("posepipe_requests_at_work") == 3)
        service.server.stop()
        threading.Timer(0.3, service.people.go.set).start()
        assert [call.result().status_code for call in calls] == [200, 200, 200]
    service.thread.join(SECONDS)
    assert not service.thread.is_alive()
    with pytest.raises(httpx.ConnectError):
        post(service, png())


def test_the_command_serves_until_it_is_told_to_end() -> None:
    process = start("serve", "--port", "0", "-v", "--device", "cpu", "--precision", "fp32")
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        health = httpx.get(f"{url}health", timeout=SECONDS).json()
        assert (health["state"], health["device"]) == ("ok", "cpu")
        image = (EXAMPLES / "astronaut.jpg").read_bytes()
        answer = httpx.post(f"{url}poses", content=image, timeout=60)
        assert len(msgspec.json.decode(answer.content)) == 1
        process.terminate()
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0
    assert [line.split(" - ")[1] for line in said.splitlines()] == [
        '"GET /health HTTP/1.1" 200',
        '"POST /poses HTTP/1.1" 200',
    ]


# --- options


@pytest.mark.parametrize("wrong", [{"queue": 0}, {"timeout": float("nan")}, {"max_delay": -1}])
def test_limits_out_of_range_are_named(wrong: dict[str, float]) -> None:
    with pytest.raises(OptionError, match=next(iter(wrong))):
        ServeOptions(**wrong)


def test_a_port_that_is_taken_is_said(serve: Serve) -> None:
    result = posepipe("serve", "--port", serve().port, "--device", "cpu")
    assert result.exit_code == 1
    assert "name another port" in result.stderr


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posepipe.cli.serve.find_spec", lambda name: None)
    result = posepipe("serve")
    assert result.exit_code == 1
    assert "pip install 'posepipe[serve]'" in result.stderr
