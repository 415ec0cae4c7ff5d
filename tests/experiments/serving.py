"""A server of published archives on this machine, for what downloads them."""

import functools
import http.server
import threading

from experiments.data.prepare import PREPARATIONS
from tests.experiments import archives

WRITERS = {
    "mnist": archives.mnist,
    "fashion_mnist": archives.mnist,
    "cifar10": archives.cifar,
    "cifar100": functools.partial(archives.cifar, fine=True, count=200),
    "svhn_cropped": archives.svhn,
    "imagenette": archives.imagenette,
    "imagenet_resized/32x32": archives.imagenet_resized,
    "downsampled_imagenet/32x32": archives.downsampled_imagenet,
}
"""Data set to what writes its archives into a folder."""


class Server:
    """Serves a folder on the loopback address and counts what is asked for.

    Attributes:
      folder: what is served.
      asked: the files that were asked for, in order.
      cut: those of which it sends half and hangs up.
      halfway: called when it did.
    """

    def __init__(self, folder):
        self.folder, self.asked, self.cut = folder, [], set()
        self.halfway = None
        outer = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *arguments):
                del arguments

            def do_GET(self):
                name = self.path.lstrip("/")
                outer.asked.append(name)
                if name not in outer.cut:
                    return super().do_GET()
                content = (folder / name).read_bytes()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2])
                self.wfile.flush()
                if outer.halfway is not None:
                    outer.halfway()
                return None

        make = functools.partial(Handler, directory=str(folder))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), make)
        # asked whether to stop a hundred times a second, or every test waits for it
        serve = functools.partial(self._server.serve_forever, poll_interval=0.01)
        self._thread = threading.Thread(target=serve, daemon=True)
        self._thread.start()

    def archives(self, name):
        """What is published of a data set, as it lies in the folder now."""
        address = f"http://127.0.0.1:{self._server.server_port}"
        return {
            file: archives.archive_of(self.folder / file, f"{address}/{file}")
            for file in PREPARATIONS[name].files
        }

    def close(self):
        """Ends it; what is asked for afterwards is refused."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def partial_files(data_dir):
    """What only an unfinished preparation has."""
    found = [str(path) for path in data_dir.rglob("*")]
    return [path for path in found if ".tmp." in path or "incomplete." in path]
