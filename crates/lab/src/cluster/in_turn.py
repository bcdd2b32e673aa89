"""Answers one request after the other, 20 ms each; five more may wait (socketserver's request_queue_size)."""
import http.server
import socket
import sys
import time


class Server(http.server.HTTPServer):
    address_family = socket.AF_INET6


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(0.02)
        body = (sys.argv[2] + "\n").encode()
        self.send_response(200)
        self.send_header("X-Backend", sys.argv[2])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


Server(("::", int(sys.argv[1])), Answer).serve_forever()
