"""A web camera on this machine: images without end over HTTP, or until it goes away or hangs."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image
from video_files import numbered


def _jpeg(pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()


IMAGES = [_jpeg(pixels) for pixels in numbered(20)]


@contextmanager
def web_camera(*, images: int | None = None, hangs: bool = False) -> Iterator[str]:
    """The address of a camera that gives 50 images a second.

    Args:
        images: after so many it goes away; None for never.
        hangs: it does not go away, but says nothing more.
    """
    closing = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            count = 0
            while images is None or count < images:
                jpeg = IMAGES[count % 20]
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                try:
                    self.wfile.write(head.encode() + jpeg + b"\r\n")
                except OSError:  # nobody listens any more
                    return
                count += 1
                if closing.wait(0.02):
                    return
            if hangs:
                closing.wait(30)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False  # joined as the server closes
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/video"
    finally:
        closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
