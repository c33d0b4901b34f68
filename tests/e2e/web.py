"""Small real servers for tests: HTTP, TLS, a unix socket, a proxy."""

import http.server
import select
import socket
import socketserver
import ssl
import subprocess
import threading
from urllib.parse import parse_qs, urlsplit


class Request:
    def __init__(self, handler, body):
        parts = urlsplit(handler.path)
        self.method, self.path, self.query = handler.command, parts.path, parse_qs(parts.query)
        self.target = handler.path
        self.headers, self.body, self.handler = handler.headers, body, handler
        self.certificate = handler.connection.getpeercert() if isinstance(handler.connection, ssl.SSLSocket) else None


class Web:
    """Answers with what `answer(request)` returns: a body, or (status, headers, body); `None` when it has answered itself."""

    def __init__(self, answer, tls=None, unix=None):
        self.requests = []
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self):
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                request = Request(self, body)
                web.requests.append(request)
                result = answer(request)
                if result is None:
                    return
                status, headers, text = result if isinstance(result, tuple) else (200, {}, result)
                data = text.encode() if isinstance(text, str) else text
                self.send_response(status)
                for name, value in {"content-type": "text/plain; version=0.0.4", **headers}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_CONNECT = handle_any

            def address_string(self):
                return "test"

            def log_message(self, *arguments):
                pass

        if unix:

            class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
                daemon_threads = True

            self.server = UnixServer(str(unix), Handler)
        else:
            self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            self.port = self.server.server_port
            self.address = f"127.0.0.1:{self.port}"
            self.url = f"{'https' if tls else 'http'}://{self.address}"
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def tunnel(request):
    """The answer of a proxy: CONNECT opens a tunnel, anything else is passed on."""
    handler = request.handler
    host, port = (request.target if request.method == "CONNECT" else urlsplit(request.target).netloc).split(":")
    with socket.create_connection((host, int(port))) as upstream:
        if request.method == "CONNECT":
            handler.wfile.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        else:
            upstream.sendall(f"GET {request.path} HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: close\r\n\r\n".encode())
        both = {handler.connection: upstream, upstream: handler.connection}
        while True:
            for ready in select.select(list(both), [], [])[0]:
                data = ready.recv(65536)
                if not data:
                    handler.close_connection = True
                    return
                both[ready].sendall(data)


class Certificates:
    """A certificate authority, a server under a name and on loopback, and a client."""

    def __init__(self, folder, name="shop.test"):
        self.folder = folder
        self.name = name
        self._run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key",
                  "-out", "ca.pem", "-subj", "/CN=Test authority", "-days", "2",
                  "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")
        self._issue("server", f"subjectAltName=DNS:{name}")
        self._issue("loopback", "subjectAltName=IP:127.0.0.1")
        self._issue("client", "subjectAltName=DNS:scraper.test\nextendedKeyUsage=clientAuth")

    def _run(self, *arguments):
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)

    def _issue(self, name, extensions):
        (self.folder / f"{name}.ext").write_text(extensions)
        self._run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key",
                  "-out", f"{name}.csr", "-subj", f"/CN={name}")
        self._run("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                  "-out", f"{name}.pem", "-days", "2", "-extfile", f"{name}.ext")

    def context(self, name="server", asks_client=False):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        if asks_client:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.folder / "ca.pem")
        return context
