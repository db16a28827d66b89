"""The `server` back end, against `transformers serve` with a tiny LLaVA, and against a stub that fails on purpose.

The stub is no model and no server of anybody's: it plays the statuses, delays and broken answers that real ones give.
"""

import base64
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import tiny_llava
import torch
from PIL import Image

from fusionlib import feedback
from fusionlib.feedback.backends import to_pil
from fusionlib.feedback.server import Server
from fusionlib.feedback.text_encoder import encoder_name
from fusionlib.utils.errors import FusionError

pytest.importorskip("openai", reason="the client of the server back end is not installed: pip install openai")

MODEL = "fusionlib/tiny-llava"
KEY = "sk-a-secret-of-the-user"


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def pictures(count, size=(48, 64)):
    generator = torch.Generator().manual_seed(5)
    return [torch.rand(1 if i % 3 == 0 else 3, *size, generator=generator) for i in range(count)]


def received(url):
    """The pixels [H,W,3] of a data: address, as a server decodes them."""
    head, data = url.split(",", 1)
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


class Stub(ThreadingHTTPServer):
    """Plays `script`, one (status, body, headers) per chat request, then answers each with the mean of its image."""

    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.script, self.requests, self.keys, self.times, self.models = [], [], [], [], ["tiny"]
        self.delay, self.active, self.most, self.lock = 0.0, 0, 0, threading.Lock()

    def handle_error(self, *_):  # a client that stops waiting is part of the tests
        pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def send(self, status, body, headers=()):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": len(body), **dict(headers)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.server.models is None or self.path != "/v1/models":
            return self.send(404, {"detail": "Not Found"})
        self.send(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in self.server.models]})

    def do_POST(self):
        stub = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with stub.lock:
            stub.active += 1
            stub.most = max(stub.most, stub.active)
            stub.requests.append(body)
            stub.keys.append(self.headers["Authorization"])
            stub.times.append(time.monotonic())
            step = stub.script.pop(0) if stub.script else None
        try:
            pixels = received(body["messages"][0]["content"][0]["image_url"]["url"])
            time.sleep(stub.delay(pixels) if callable(stub.delay) else stub.delay)
            self.send(*(step or (200, completion(f" mean {pixels.mean():.3f}\n"))))
        finally:
            with stub.lock:
                stub.active -= 1


def completion(content, finish_reason="stop", **message):
    message = {"role": "assistant", "content": content, **message}
    return {
        "id": "1", "object": "chat.completion", "created": 0, "model": "tiny",
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
    }


@pytest.fixture
def stub():
    with Stub() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()


def expected(image):
    return f"mean {np.asarray(to_pil(image)).mean():.3f}"


# What is sent, and in which order it comes back


def test_a_request_holds_the_lossless_image_the_question_and_the_settings(stub):
    server = Server(stub.url, max_tokens=7, temperature=0.5)
    image = pictures(1)[0]
    assert server.reply([image], "How?") == [(expected(image), None)]
    (request,) = stub.requests
    (message,) = request.pop("messages")
    assert request == {"model": "tiny", "max_tokens": 7, "temperature": 0.5}
    assert message["role"] == "user" and message["content"][1] == {"type": "text", "text": "How?"}
    pixels = received(message["content"][0]["image_url"]["url"])
    assert np.array_equal(pixels, image.mul(255).round().byte().expand(3, -1, -1).permute(1, 2, 0).numpy())


def test_replies_keep_their_order_and_requests_their_bound(stub):
    images = pictures(20)
    stub.delay = lambda pixels: 0.02 + 0.1 * (pixels.mean() * 1000 % 1)  # the later may be answered first
    server = Server(stub.url, concurrency=3)
    assert [reply.text for reply in server.reply(images, "How?")] == [expected(image) for image in images]
    assert stub.most == 3 and len(stub.requests) == 20


def test_no_image_no_request(stub):
    assert Server(stub.url).reply([], "How?") == [] and not stub.requests


def test_settings_are_what_decides_the_answer(stub):
    server = Server(stub.url + "/", concurrency=2, timeout=5, retries=1)
    assert (server.model, server.revision, server.encoder) == ("tiny", "", encoder_name())
    assert server.settings == {"max_tokens": 128, "temperature": 0.0}
    assert json.loads(json.dumps(server.settings)) == server.settings


def test_works_where_an_event_loop_runs_already(stub):
    """As in a notebook cell."""
    import asyncio

    async def cell():
        return Server(stub.url).reply(pictures(3), "How?")

    assert len(asyncio.run(cell())) == 3


# The forms an answer comes in


@pytest.mark.parametrize(
    "body, text",
    [
        (completion("  Raise it.\n\n"), "Raise it."),
        (completion(None), ""),
        (completion(""), ""),
        (completion(None, refusal="I cannot look at people."), "I cannot look at people."),
        (completion([{"type": "text", "text": "Raise"}, {"type": "text", "text": " it."}]), "Raise it."),
        (completion([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Raise it."}]), "Raise it."),
        (completion("Cut sho", finish_reason="length"), "Cut sho"),
    ],
)
def test_forms_of_an_answer(stub, body, text):
    stub.script = [(200, body)]
    assert Server(stub.url).reply(pictures(1), "How?") == [(text, None)]


@pytest.mark.parametrize(
    "body, sentence",
    [
        (completion("", finish_reason="length"), "tiny used up 128 tokens before its answer .* raise max_tokens"),
        (completion(None, finish_reason="content_filter"), "withheld the answer of tiny"),
        ({"choices": []}, "should answer as the OpenAI API does, but does not .*correct url"),
        (["something", "else"], "should answer as the OpenAI API does"),
        (b'{"choices": [{"mess', "should answer as the OpenAI API does"),
    ],
)
def test_what_is_no_answer_is_named(stub, body, sentence):
    stub.script = [(200, body)]
    (error,) = Server(stub.url).reply(pictures(1), "How?")
    assert isinstance(error, FusionError) and re.search(sentence, str(error))


def test_a_web_page_is_no_answer(stub):
    stub.script = [(200, b"<html>Welcome to the router</html>", {"Content-Type": "text/html"})]
    (error,) = Server(stub.url).reply(pictures(1), "How?")
    assert "as the OpenAI API does" in str(error) and "Welcome to the router" in str(error)


# What is tried again


def test_429_waits_as_long_as_the_server_asks_for(stub):
    stub.script = [(429, {"error": {"message": "slow down"}}, {"Retry-After": "1"})]
    image = pictures(1)[0]
    assert Server(stub.url).reply([image], "How?") == [(expected(image), None)]
    assert len(stub.times) == 2 and stub.times[1] - stub.times[0] >= 1  # by itself it would wait half as long


def test_500_twice_then_an_answer_with_growing_waits(stub):
    stub.script = [(500, {"error": {"message": "out of memory"}})] * 2
    image = pictures(1)[0]
    assert Server(stub.url).reply([image], "How?") == [(expected(image), None)]
    first, second = np.diff(stub.times)
    assert 0.37 < first and 0.75 <= second  # half a second, then a whole one, each up to a quarter less


def test_after_the_last_try_an_image_fails_and_the_others_do_not(stub):
    failure = (500, {"error": {"message": "out of memory"}})
    stub.script = [(200, completion("first")), failure, failure, (200, completion("third")), failure, failure]
    server = Server(stub.url, concurrency=1, retries=1)
    images, stub.delay = pictures(8), 0.05
    first, second, third, fourth, *others = server.reply(images, "How?")
    assert (first.text, third.text) == ("first", "third")
    assert [other.text for other in others] == [expected(image) for image in images[4:]]
    for failed in (second, fourth):
        assert isinstance(failed, FusionError) and "500: out of memory; see the server's log" in str(failed)


def test_too_slow(stub):
    stub.delay = 1.0
    (error,) = Server(stub.url, timeout=0.2, retries=1).reply(pictures(1), "How?")
    assert "did not answer within 0.2 s: raise timeout" in str(error)
    assert len(stub.requests) == 2


def test_a_dead_server_is_given_up_after_the_first_images():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"  # bound, but nothing listens
        began = time.monotonic()
        replies = Server(url, model="tiny", retries=2, concurrency=4).reply(pictures(1) * 500, "How?")
    assert time.monotonic() - began < 20  # 2 retries wait 1.5 s; asking about each would take 125 times as long
    assert len(replies) == 500
    for error in replies:
        assert f"nothing answers at {url}" in str(error) and "refused" in str(error)


def test_a_failing_server_is_given_up_too(stub):
    stub.script, stub.delay = [(503, {"error": {"message": "overloaded"}})] * 100, 0.2
    replies = Server(stub.url, retries=0, concurrency=4).reply(pictures(1) * 100, "How?")
    assert all("says 503: overloaded" in str(error) for error in replies)
    assert len(stub.requests) <= 8  # four fail, and four may be under way by then


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal to a thread")
def test_an_interrupt_ends_the_wait(stub, request):
    # A shell starts what it runs in the background with interrupts ignored, and Python leaves it so.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(partial(signal.signal, signal.SIGINT, before))
    server, stub.delay, sent = Server(stub.url, concurrency=2), 10.0, []

    def interrupt_when_two_are_under_way():
        while len(stub.requests) < 2:
            time.sleep(0.01)
        sent.append(time.monotonic())
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=interrupt_when_two_are_under_way, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        server.reply(pictures(1) * 50, "How?")
    assert time.monotonic() - sent[0] < 8  # what is under way is left to itself
    assert len(stub.requests) == 2


# What is final


@pytest.mark.parametrize(
    "status, body, sentence",
    [
        (401, {"error": {"message": "Invalid key"}}, "says 401: Invalid key; put a key .none is set. .*OPENAI_API_KEY"),
        (403, {"detail": "No"}, "says 403: No; put a key .none is set"),
        (404, {"error": {"message": "no model tiny"}}, "says 404: no model tiny; set model to .* it lists: tiny"),
        (302, {}, "redirects to http://elsewhere.invalid/v1: give the final address"),
    ],
)
def test_what_every_image_would_meet_is_named_at_once(stub, status, body, sentence):
    stub.script, stub.delay = [(status, body, {"Location": "http://elsewhere.invalid/v1"})] * 50, 0.2
    replies = Server(stub.url, concurrency=1).reply(pictures(1) * 50, "How?")
    assert len(stub.requests) <= 2  # the next may be under way when the first has failed
    for error in replies:
        assert isinstance(error, FusionError) and re.search(sentence, str(error))


def test_400_is_final_for_its_image_only(stub):
    stub.script = [(400, {"error": {"message": "tiny is not a multimodal model"}})]
    replies = Server(stub.url, concurrency=1).reply(pictures(3), "How?")
    assert "tiny is not a multimodal model; does it serve tiny, and does this model take images?" in str(replies[0])
    assert [reply.text for reply in replies[1:]] == [expected(image) for image in pictures(3)[1:]]
    assert len(stub.requests) == 3


# The key


def test_the_key_is_sent_and_shown_nowhere(stub, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    stub.script = [(200, completion("Raise it.")), (401, {"error": {"message": f"Incorrect key {KEY} of yours"}})]
    server = Server(stub.url, concurrency=1)
    store = feedback.open_store(tmp_path)
    with caplog.at_level("DEBUG"), pytest.raises(FusionError, match=r"Incorrect key \*\*\* of yours") as failure:
        feedback.ask(pictures(2), server, store=store)
    assert stub.keys == [f"Bearer {KEY}"] * 2
    assert len(store) == 1
    assert KEY not in json.dumps(server.settings) and KEY not in caplog.text
    assert KEY not in str(failure.getrepr(chain=True)) and KEY not in repr(server)
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes()


# Addresses and options


@pytest.mark.parametrize(
    "url, sentence",
    [
        ("localhost:8000/v1", "must start with http:// or https://"),
        ("http:///v1", "must start with http:// or https:// and a host"),
        ("http://localhost:80a/v1", "must start with http:// or https:// and a host"),
        ("http://localhost:8000", "must include the path of the API, usually /v1"),
        ("http://localhost:8000/", "must include the path of the API, usually /v1"),
        (f"http://me:{KEY}@localhost:8000/v1", "must be a plain address"),
        (f"http://localhost:8000/v1?key={KEY}", "must be a plain address"),
    ],
)
def test_addresses(url, sentence):
    with pytest.raises(FusionError, match=sentence) as failure:
        Server(url, model="tiny")
    assert KEY not in str(failure.value)


@pytest.mark.parametrize(
    "option", [{"max_tokens": 0}, {"temperature": -0.1}, {"concurrency": 0}, {"timeout": 0}, {"retries": -1}]
)
def test_options_out_of_range(option):
    with pytest.raises(FusionError, match=f"{next(iter(option))} must be at least"):
        Server("http://localhost:8000/v1", model="tiny", **option)


def test_the_only_model_is_found_and_others_are_listed(stub):
    stub.models = ["tiny", "small"]
    with pytest.raises(FusionError, match="lists the models tiny, small: name the one to ask with model="):
        Server(stub.url)
    assert Server(stub.url, model="small").model == "small"
    stub.models = []
    with pytest.raises(FusionError, match="lists no model: name"):
        Server(stub.url)
    stub.models = None
    with pytest.raises(FusionError, match="says 404: Not Found; correct url, which for most servers ends in /v1"):
        Server(stub.url)


def test_nothing_listens_is_said_at_once():
    began = time.monotonic()
    with pytest.raises(FusionError, match=r"nothing answers at http://127\.0\.0\.1:9/v1"):
        Server("http://127.0.0.1:9/v1")
    assert time.monotonic() - began < 8  # five retries would wait 11 s or more


def test_a_missing_client_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(FusionError, match=r'pip install openai'):
        Server("http://localhost:8000/v1")


# A real server


class Serving:
    """`transformers serve` on loopback, with a model in a hub cache of its own; what it says goes to a file."""

    def __init__(self, folder):
        self.cache, self.log = folder / "hub", folder / "serve.log"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.process = None

    def start(self):
        environment = {
            **os.environ, "HF_HUB_CACHE": str(self.cache), "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "OMP_NUM_THREADS": "1",
        }
        environment.pop("OPENAI_API_KEY", None)
        command = [Path(sys.executable).with_name("transformers"), "serve", MODEL, "--device", "cpu"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", str(self.port)], env=environment, stdout=log, stderr=log
            )
        began = time.monotonic()
        while time.monotonic() - began < 60:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5).close()
                return
            except (urllib.error.URLError, OSError):
                assert self.process.poll() is None, self.log.read_text()[-2000:]
                time.sleep(0.1)
        raise AssertionError(f"no server after 60 s: {self.log.read_text()[-2000:]}")

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait()

    def answered(self):
        return self.log.read_text().count('"POST /v1/chat/completions HTTP/1.1" 200')


@pytest.fixture(scope="session")
def serving(tmp_path_factory):
    from transformers.utils.import_utils import is_serve_available

    if not is_serve_available():
        pytest.skip("the extras of transformers for serving are not installed: transformers[serving]")
    folder = tmp_path_factory.mktemp("serve")
    server = Serving(folder)
    model = server.cache / f"models--{MODEL.replace('/', '--')}"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("0" * 40)
    tiny_llava.build("llava", model / "snapshots" / ("0" * 40))
    server.start()
    yield server
    server.kill()


def test_a_real_server_answers_about_each_image(serving):
    images = pictures(6)
    server = Server(serving.url, max_tokens=16)
    assert server.model == MODEL  # as the server lists it
    texts = [reply.text for reply in server.reply([*images, images[0]], feedback.QUESTION)]
    assert all(texts) and len(set(texts[:6])) > 1  # it looks at the image
    assert texts[6] == texts[0]  # and is greedy


def test_a_real_server_asked_for_a_model_it_has_not(serving):
    replies = Server(serving.url, model="nobody/nothing").reply(pictures(1), "How?")
    assert "400" in str(replies[0]) and "requested 'nobody/nothing'" in str(replies[0])


def test_killed_in_the_middle_the_second_run_asks_only_for_the_rest(serving, tmp_path):
    images, store = pictures(20), feedback.open_store(tmp_path)

    before = serving.answered()

    def kill():
        while serving.answered() < before + 13:  # three batches, and a part of the fourth
            time.sleep(0.005)
        serving.kill()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    options = {"backend": "server", "url": serving.url, "model": MODEL, "max_tokens": 64, "batch": 4, "store": store}
    with pytest.raises(FusionError, match="nothing answers at") as failure:
        feedback.ask(images, retries=1, **options)
    killer.join()
    done = len(store)
    assert 12 <= done < 20 and f"{done} of 20" in str(failure.value)
    before = serving.answered()
    serving.start()
    answers = feedback.ask(images, **options)
    assert serving.answered() - before == 20 - done
    assert len(store) == len(answers) == 20
    uninterrupted = Server(serving.url, max_tokens=64).reply(images, feedback.QUESTION)
    assert [answer.text for answer in answers] == [reply.text for reply in uninterrupted]
    assert {answer.model for answer in answers} == {MODEL}
