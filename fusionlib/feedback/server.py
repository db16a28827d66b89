"""The `server` back end: any OpenAI-compatible endpoint, such as vLLM, SGLang, Ollama or `transformers serve`.

Images go to the address that is given and nowhere else. A key is taken from the environment variable OPENAI_API_KEY
and appears neither in settings nor in messages, so that no notebook and no store holds it.
"""

import base64
import io
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from urllib.parse import urlsplit

from torch import Tensor

from fusionlib.feedback.backends import Reply, to_pil
from fusionlib.feedback.text_encoder import encoder_name
from fusionlib.utils.errors import FusionError

ENV_KEY = "OPENAI_API_KEY"
EXAMPLE = "http://localhost:8000/v1"
CONNECT = 10.0  # seconds to reach the server, within which a live one accepts, however long its answers take


class _FatalServerError(FusionError):
    """What the next image would meet as well: wrong key, unknown model, wrong address."""


class Server:
    """Answers from a multimodal language model behind an OpenAI-compatible endpoint.

    The answer is decided by the model's name and the decoding settings, so they and not the address are its key in the
    store: a second server with the same model goes on where the first one stopped.

    Args:
        url: base address of the endpoint, such as http://localhost:8000/v1.
        model: its name there; by default the only one that the server lists, which is then asked for at once.
        max_tokens: longest answer.
        temperature: 0 for greedy decoding.
        concurrency: requests at a time, of each process where several ask.
        timeout: seconds that one request may take, waiting in the server's own queue included.
        retries: further tries, with exponential back-off and jitter, after a failed connection, a time-out, and the
            statuses 408, 409, 429 (Retry-After is honoured up to two minutes) and 5xx. Other statuses are final.

    Raises:
        FusionError: no client library, an address or option out of range, no model or more than one to choose from.
    """

    revision = ""  # an endpoint does not tell which weights it runs

    def __init__(
        self,
        url: str,
        model: str = "",
        max_tokens: int = 128,
        temperature: float = 0.0,
        concurrency: int = 8,
        timeout: float = 120.0,
        retries: int = 5,
    ):
        try:
            import openai
        except ImportError as error:
            raise FusionError(
                'the back end "server" needs the package openai: pip install openai'
            ) from error
        for name, value, least in [
            ("max_tokens", max_tokens, 1),
            ("temperature", temperature, 0),
            ("concurrency", concurrency, 1),
            ("timeout", timeout, 1e-3),
            ("retries", retries, 0),
        ]:
            if value < least:
                raise FusionError(f"{name} must be at least {least}, but is {value}")
        self.url = _checked(url)
        self.settings = {"max_tokens": max_tokens, "temperature": float(temperature)}
        self.encoder = encoder_name()
        self.concurrency, self.timeout, self.retries = concurrency, timeout, retries
        self.batch = 4 * concurrency  # few enough to lose in a kill, enough to keep all requests under way
        self._key = os.environ.get(ENV_KEY, "").strip()  # a line end would make it illegal, and so part of a message
        self._client = openai.OpenAI(
            base_url=self.url,
            api_key=self._key or "none",  # the client insists on one, servers without keys ignore it
            max_retries=retries,
            timeout=openai.Timeout(timeout, connect=min(CONNECT, timeout)),
            http_client=openai.DefaultHttpxClient(follow_redirects=False),  # images go to no other address
        )
        self.model = model or self._only_model()

    def reply(self, images: Sequence[Tensor], question: str) -> list[Reply | FusionError]:
        """Ask about each image [1|3,H,W] in 0..1, sent as lossless png; works in threads, in notebooks too.

        Returns:
            One entry per image, in order: the reply, or why there is none after all tries. When as many requests in a
            row have failed as run at a time (at least two), or one in a way that all would, the rest is not asked and
            gets the same error.
        """
        pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="server")
        futures = [pool.submit(self._ask, image, question) for image in images]
        in_a_row, last = 0, None
        try:
            for future in as_completed(futures):
                if future.cancelled():
                    continue
                entry = _entry(future)
                in_a_row = 0 if isinstance(entry, Reply) else in_a_row + 1
                if in_a_row >= max(2, self.concurrency) or isinstance(entry, _FatalServerError):
                    last = entry
                    for waiting in futures:
                        waiting.cancel()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # an interrupt does not wait for what is under way
        return [last if future.cancelled() else _entry(future) for future in futures]

    def _ask(self, image: Tensor, question: str) -> Reply:
        png = io.BytesIO()
        to_pil(image).save(png, "PNG", compress_level=1)  # half the time of 6 for two fifths more bytes
        address = f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"
        content = [{"type": "image_url", "image_url": {"url": address}}, {"type": "text", "text": question}]
        return Reply(self._call(self._complete, [{"role": "user", "content": content}]))

    def _complete(self, messages: list[dict]) -> str:
        completion = self._client.chat.completions.create(model=self.model, messages=messages, **self.settings)
        try:
            choice = completion.choices[0]
            said = choice.message.content or choice.message.refusal or ""  # a refusal is an answer as well
            text = said if isinstance(said, str) else "".join(part.get("text", "") for part in said)
        except (AttributeError, IndexError, TypeError):
            raise ValueError(completion) from None
        if not text.strip() and choice.finish_reason == "length":
            raise FusionError(
                f"{self.model} spent {self.settings['max_tokens']} tokens without a word of an answer, as models do "
                "that reason first: raise max_tokens"
            )
        if not text.strip() and choice.finish_reason == "content_filter":
            raise FusionError(f"{self.url} held the answer of {self.model} back (content_filter): ask another model")
        return text.strip()

    def _only_model(self) -> str:
        names = self._call(self._list)
        if len(names) != 1:
            what = f"lists the models {', '.join(names)}" if names else "lists no model"
            raise FusionError(f"{self.url} {what}: name the one to ask with model=")
        return names[0]

    def _list(self) -> list[str]:
        listed = self._client.with_options(max_retries=0).models.list()  # a person waits for this one
        try:
            return [entry.id for entry in listed.data]
        except (AttributeError, TypeError):
            raise ValueError(listed) from None

    def _alternatives(self) -> str:
        import openai

        try:
            names = ", ".join(self._list())
        except (openai.OpenAIError, ValueError):
            return f"mend url, which ends in /v1 with most servers (like {EXAMPLE})"
        return f"set model to one of those that it lists: {names or 'none'}"

    def _call(self, function, *arguments):
        """Call a function that uses the client; whatever the client raises becomes one sentence."""
        import openai

        try:
            return function(*arguments)
        except FusionError:
            raise
        except openai.APITimeoutError:
            error = FusionError(
                f"{self.url} did not answer within {self.timeout:g} s: raise timeout, or lower concurrency "
                f"({self.concurrency}) where the server answers one request at a time"
            )
        except openai.APIConnectionError as failure:
            error = FusionError(
                f"nothing answers at {self.url} ({self._quote(failure.__cause__ or failure)}): "
                "start the server or mend url, then ask again"
            )
        except openai.APIStatusError as failure:
            error = self._refused(failure)
        except (openai.OpenAIError, ValueError) as failure:  # neither JSON nor of the form that the API has
            error = FusionError(
                f"{self.url} should answer as the OpenAI API does, but does not ({self._quote(failure)}): mend url"
            )
        raise error  # not chained: the client's own error holds the request, and with it the key

    def _refused(self, failure) -> FusionError:
        status, words = failure.status_code, failure.body
        if isinstance(words, dict):
            words = words.get("message") or words.get("detail") or words
        said = f"{self.url} says {status}: {self._quote(words or failure.message)}"
        if status < 400:
            place = failure.response.headers.get("location", "elsewhere")
            return _FatalServerError(f"{self.url} redirects to {self._quote(place)}: give the final address as url")
        if status in (401, 403):
            which = "a key" if self._key else "a key (none is set)"
            return _FatalServerError(f"{said}; put {which} that it takes into the environment variable {ENV_KEY}")
        if status == 404:
            return _FatalServerError(f"{said}; {self._alternatives()}")
        if status == 429:
            return FusionError(f"{said}; lower concurrency ({self.concurrency}) or wait")
        if status >= 500:
            return FusionError(f"{said}; the server's log tells why")
        return FusionError(f"{said}; does it serve {self.model}, and does this model take images?")

    def _quote(self, words) -> str:
        """What a server says, on one short line and without the key, should it be repeated there."""
        line = " ".join(str(words).split())
        line = line.replace(self._key, "***") if self._key else line
        return line if len(line) <= 200 else line[:200] + "..."


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number
        good = False
    if "@" in url or "?" in url or "#" in url:  # not quoted, it may hold a secret
        raise FusionError(f"url must be a plain address like {EXAMPLE}: put the key into the variable {ENV_KEY}")
    if not good:
        raise FusionError(f"url must start with http:// or https:// and a host, like {EXAMPLE}, but is {url!r}")
    if not parts.path.strip("/"):
        raise FusionError(f"url must name the path of the API, mostly /v1, like {EXAMPLE}, but is {url!r}")
    return url.rstrip("/")


def _entry(future: Future) -> Reply | FusionError:
    error = future.exception()
    return error if isinstance(error, FusionError) else future.result()
