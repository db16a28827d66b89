"""The `server` back end: any OpenAI-compatible endpoint, such as vLLM, SGLang, Ollama or `transformers serve`.

Images are sent to the given address only. A key is read from the environment variable OPENAI_API_KEY and is left out of
settings and messages, so that no notebook or store contains it.
"""

import base64
import functools
import importlib
import io
import os
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from urllib.parse import urlsplit

from torch import Tensor

from fusionlib.feedback.backends import Reply, to_pil
from fusionlib.feedback.text_encoder import encoder_name
from fusionlib.utils.errors import FusionError

ENV_KEY = "OPENAI_API_KEY"
EXAMPLE = "http://localhost:8000/v1"
LONGEST, LONGEST_ANSWER = 1 << 20, 1 << 16  # bytes of a response, characters of an answer, which has some hundreds
CONNECT = 10.0  # seconds to connect; a running server accepts in less, however long its answers take


class _FatalServerError(FusionError):
    """An error that every image would meet: wrong key, unknown model, wrong address."""


class Server:
    """Answers from a multimodal language model behind an OpenAI-compatible endpoint.

    The model's name and the decoding settings identify an answer in the store, and the address does not: another server
    with the same model continues where the first one stopped.

    Args:
        url: base address of the endpoint, such as http://localhost:8000/v1.
        model: its name on the server; by default the only one that the server lists, which is looked up at once.
        max_tokens: maximum length of an answer.
        temperature: 0 for greedy decoding.
        concurrency: simultaneous requests of each process.
        timeout: seconds that one request may take, including its time in the server's queue.
        retries: further attempts, with exponential back-off and jitter, after a failed connection, a time-out, and the
            statuses 408, 409, 429 (Retry-After is honoured up to two minutes) and 5xx. Other statuses are final.

    Raises:
        FusionError: no client library, an address or option out of range, no model or more than one to choose from.
    """

    revision = ""  # an endpoint does not say which weights it runs

    def __init__(self, url: str, model: str = "", max_tokens: int = 128, temperature: float = 0.0, concurrency: int = 8,
                 timeout: float = 120.0, retries: int = 5):
        try:
            import openai
        except ImportError as error:
            raise FusionError('the back end "server" needs the package openai: pip install openai') from error
        minima = {"max_tokens": (max_tokens, 1), "temperature": (temperature, 0), "concurrency": (concurrency, 1),
                  "timeout": (timeout, 1e-3), "retries": (retries, 0)}
        for name, (value, minimum) in minima.items():
            if value < minimum:
                raise FusionError(f"{name} must be at least {minimum}, but is {value}")
        self.url, self.encoder = _checked(url), encoder_name()
        self.settings = {"max_tokens": max_tokens, "temperature": float(temperature)}
        self.concurrency, self.timeout, self.retries = concurrency, timeout, retries
        self.batch = 4 * concurrency  # few enough to lose in a kill, many enough to keep all requests busy
        self._key = os.environ.get(ENV_KEY, "").strip()  # with a line end it would be an illegal header, and quoted
        self._client = openai.OpenAI(
            base_url=self.url,
            api_key=self._key or "none",  # the client requires one; servers without keys ignore it
            max_retries=retries,
            timeout=openai.Timeout(timeout, connect=min(CONNECT, timeout)),
            default_headers={"Accept-Encoding": "identity"},  # so that a short answer cannot grow
            http_client=openai.DefaultHttpxClient(
                follow_redirects=False,  # images are sent to no other address
                event_hooks={"response": [functools.partial(_bound, timeout=timeout)]},
            ),
        )
        self.model = model or self._only_model()

    def reply(self, images: Sequence[Tensor], question: str) -> list[Reply | FusionError]:
        """Ask about each image [1|3,H,W] in 0..1, sent as lossless PNG, from several threads.

        Returns:
            One entry per image, in order: the reply, or why there is none after all retries. After as many consecutive
            failures as requests run at a time (at least two), or one that every image would meet, the remaining images
            are not sent and get the same error.
        """
        pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="server")
        futures = [pool.submit(self._ask, image, question) for image in images]
        consecutive_failures, last = 0, None
        try:
            for future in as_completed(futures):
                if future.cancelled():
                    continue
                entry = _entry(future)
                consecutive_failures = 0 if isinstance(entry, Reply) else consecutive_failures + 1
                if consecutive_failures >= max(2, self.concurrency) or isinstance(entry, _FatalServerError):
                    last = entry
                    for waiting in futures:
                        waiting.cancel()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # an interrupt does not wait for running requests
        return [last if future.cancelled() else _entry(future) for future in futures]

    def _ask(self, image: Tensor, question: str) -> Reply:
        png = io.BytesIO()
        to_pil(image).save(png, "PNG", compress_level=1)  # level 6 takes twice the time and saves 30 %
        address = f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"
        content = [{"type": "image_url", "image_url": {"url": address}}, {"type": "text", "text": question}]
        return Reply(self._call(self._complete, [{"role": "user", "content": content}]))

    def _complete(self, messages: list[dict]) -> str:
        completion = self._client.chat.completions.create(model=self.model, messages=messages, **self.settings)
        try:
            choice = completion.choices[0]
            content = choice.message.content or choice.message.refusal or ""  # a refusal is an answer, too
            text = content if isinstance(content, str) else "".join(item.get("text", "") for item in content)
        except (AttributeError, IndexError, TypeError):
            raise ValueError(completion) from None
        if not text.strip() and choice.finish_reason == "length":
            raise FusionError(f"{self.model} used up {self.settings['max_tokens']} tokens before its answer began, as "
                              "reasoning models do: raise max_tokens")
        if not text.strip() and choice.finish_reason == "content_filter":
            raise FusionError(f"{self.url} withheld the answer of {self.model} (content_filter): ask another model")
        if len(text) > LONGEST_ANSWER:
            raise FusionError(f"{self.model} answered with {len(text):,} characters, at most {LONGEST_ANSWER:,} are "
                              "kept: lower max_tokens")
        return text.strip()

    def _only_model(self) -> str:
        names = self._call(self._list)
        if len(names) != 1:
            what = f"lists the models {self._quote(', '.join(names))}" if names else "lists no model"
            raise FusionError(f"{self.url} {what}: name the one to ask with model=")
        return names[0]

    def _list(self) -> list[str]:
        listed = self._client.with_options(max_retries=0).models.list()  # a user is waiting
        try:
            return [str(entry.id) for entry in listed.data]
        except (AttributeError, TypeError):
            raise ValueError(listed) from None

    def _alternatives(self) -> str:
        import openai

        try:
            names = ", ".join(self._list())
        except (openai.OpenAIError, ValueError):
            return f"correct url, which for most servers ends in /v1 (like {EXAMPLE})"
        return f"set model to one of those that it lists: {self._quote(names) or 'none'}"

    def _call(self, function, *arguments):
        """Call a function that uses the client, and turn the client's exceptions into a FusionError."""
        import openai

        try:
            return function(*arguments)
        except FusionError:
            raise
        except openai.APITimeoutError:
            error = FusionError(f"{self.url} did not answer within {self.timeout:g} s: raise timeout, or lower "
                                f"concurrency ({self.concurrency}) if the server answers one request at a time")
        except openai.APIConnectionError as failure:
            error = FusionError(f"nothing answers at {self.url} ({self._quote(failure.__cause__ or failure)}): start "
                                "the server or correct url, then ask again")
        except openai.APIStatusError as failure:
            error = self._refused(failure)
        except (openai.OpenAIError, ValueError, RecursionError) as failure:  # not JSON, or not in the form of the API
            error = FusionError(f"{self.url} should answer as the OpenAI API does, but does not "
                                f"({self._quote(failure)}): correct url")
        raise error  # not chained: the client's exception holds the request, and with it the key

    def _refused(self, failure) -> FusionError:
        status, details = failure.status_code, failure.body
        if isinstance(details, dict):
            details = details.get("message") or details.get("detail") or details
        response = f"{self.url} says {status}: {self._quote(details or failure.message)}"
        if status < 400:
            address = failure.response.headers.get("location", "another address")
            return _FatalServerError(f"{self.url} redirects to {self._quote(address)}: give the final address as url")
        if status in (401, 403):
            key = "a valid key" if self._key else "a key (none is set)"
            return _FatalServerError(f"{response}; put {key} into the environment variable {ENV_KEY}")
        if status == 404:
            return _FatalServerError(f"{response}; {self._alternatives()}")
        if status == 429:
            return FusionError(f"{response}; lower concurrency ({self.concurrency}) or wait")
        if status >= 500:
            return FusionError(f"{response}; see the server's log")
        return FusionError(f"{response}; does it serve {self.model}, and does this model take images?")

    def _quote(self, message) -> str:
        """A server's message on one line of at most 200 characters, with the key, should it be in there, masked."""
        line = " ".join(str(message).split())
        line = line.replace(self._key, "***") if self._key else line
        return line if len(line) <= 200 else line[:200] + "..."


def _bound(response, timeout: float) -> None:
    """Before a response is read: cut it off after `LONGEST` bytes, one that is compressed at once, or by a time-out.

    What is left is no JSON any more, which is told.
    """
    client = importlib.import_module(type(response).__module__.partition(".")[0])  # httpx, or openai's copy of it
    whole, until = response.stream, time.monotonic() + timeout

    class Cut(client.SyncByteStream):
        def __iter__(self):
            left = LONGEST if response.headers.get("Content-Encoding", "identity") == "identity" else 0
            for part in whole:
                if time.monotonic() > until:
                    raise client.ReadTimeout("the answer comes too slowly")
                yield part[:left]
                left -= len(part)
                if left <= 0:
                    return

        def close(self):
            whole.close()

    response.stream = Cut()


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is not a number
        valid = False
    if "@" in url or "?" in url or "#" in url:  # not quoted, because it may contain a secret
        raise FusionError(f"url must be a plain address like {EXAMPLE}: put the key into the variable {ENV_KEY}")
    if not valid:
        raise FusionError(f"url must start with http:// or https:// and a host, like {EXAMPLE}, but is {url!r}")
    if not parts.path.strip("/"):
        raise FusionError(f"url must include the path of the API, usually /v1, like {EXAMPLE}, but is {url!r}")
    return url.rstrip("/")


def _entry(future: Future) -> Reply | FusionError:
    error = future.exception()
    return error if isinstance(error, FusionError) else future.result()
