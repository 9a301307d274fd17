"""A server of the OpenAI chat API that misbehaves as it is told, and counts what it is asked."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def answer(*texts, finish="stop", logprobs=None, usage=(10, 5)):
    """What such a server says when all is well."""
    choices = [
        {
            "index": i,
            "message": {"role": "assistant", "content": text},
            "finish_reason": finish,
            **({} if logprobs is None else {"logprobs": {"content": logprobs}}),
        }
        for i, text in enumerate(texts)
    ]
    told = {} if usage is None else {"usage": dict(zip(("prompt_tokens", "completion_tokens"), usage, strict=True))}
    return {"object": "chat.completion", "choices": choices, **told}


def place(token, logprob, **likeliest):
    """A place of an answer with its likeliest tokens."""
    listed = [{"token": one, "logprob": value} for one, value in {token: logprob, **likeliest}.items()]
    return {"token": token, "logprob": logprob, "top_logprobs": listed}


class Asked:
    """What was asked, in the order in which it came."""

    def __init__(self, respond):
        self.respond, self.bodies, self.headers, self.times = respond, [], [], []
        self.lock, self.at_once, self.most_at_once = threading.Lock(), 0, 0
        self.url = ""


@contextmanager
def serving(respond):
    """``respond(body, number)`` gives a dict, bytes, or (status, what it says, headers), or sleeps, or yields bytes."""
    asked = Asked(respond)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with asked.lock:
                number = len(asked.bodies)
                asked.bodies.append(body)
                asked.headers.append({name.lower(): value for name, value in self.headers.items()})
                asked.times.append(time.monotonic())
                asked.at_once += 1
                asked.most_at_once = max(asked.most_at_once, asked.at_once)
            try:
                self.say(respond(body, number))
            except (BrokenPipeError, ConnectionResetError):
                pass
            finally:
                with asked.lock:
                    asked.at_once -= 1

        def say(self, found):
            status, said, headers = found if isinstance(found, tuple) else (200, found, {})
            drip = not isinstance(said, dict | bytes)
            content = b"" if drip else said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            if "Content-Length" not in headers:
                self.send_header("Content-Length", str(10**6 if drip else len(content)))
            self.end_headers()
            self.wfile.write(content)
            for part in said if drip else ():
                self.wfile.write(part)
                self.wfile.flush()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    asked.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield asked
    finally:
        server.shutdown()
        server.server_close()
