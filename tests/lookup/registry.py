"""A registry on loopback: answers from a table, notes each request.

registry.py PORT CERTIFICATE TABLE NOTES: TABLE is JSON, path -> [status, {header: value}, body or {"file": path} or {"bytes": number}].
"""
import http.server, json, ssl, sys

port, certificate, table, notes = sys.argv[1:]
table = json.load(open(table))


class Registry(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with open(notes, "a") as out:
            out.write(f"{self.headers['Host']} {self.path} {self.headers['Accept']}\n")
        status, headers, body = table.get(self.path, [404, {}, ""])
        if isinstance(body, dict):
            body = open(body["file"], "rb").read() if "file" in body else b"x" * body["bytes"]
        else:
            body = body.encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            pass

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Registry)
if certificate:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
