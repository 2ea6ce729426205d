"""A real server to record: llama.cpp's, over HTTP, through the xllamacpp wheel, and its clients.

    python tools/serve.py MODEL LOAD --slots 4 [--draft MODEL] [--set NAME=VALUE ...]

LOAD is a JSON file (- is stdin): a list of rounds, one after another; a round is a list of
requests, side by side. A request is what /completion takes, and may have
    name    a word that is printed with the answer
    at      seconds after the round has begun at which it is sent
    leave   seconds after which its client goes away
    path    where it is posted, if not to /completion: what is answered there comes as a whole

Prints "ready", then one line of JSON per request: when it was sent, when its first token came and
when its last (CLOCK_BOOTTIME, ns), and of each answer the engine's own timings, slot and text; of
what was posted elsewhere its "usage".
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

DEFAULTS = {"temperature": 0, "ignore_eos": True, "stream": True}


def now() -> int:
    """The clock of traces."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Client:
    """Who asks one thing, and may go away before the answer."""

    def __init__(self, address: str, request: dict[str, Any]) -> None:
        self.name = request.pop("name", None)
        self._at = request.pop("at", 0)
        self._leave = request.pop("leave", None)
        self._path = request.pop("path", None)
        self._request = request if self._path else DEFAULTS | request
        url = urllib.parse.urlsplit(address)
        self._link = http.client.HTTPConnection(str(url.hostname), url.port)
        self._has_left = False

    def ask(self) -> dict[str, Any]:
        """Sends it and hears the answer to its end."""
        time.sleep(self._at)
        told: dict[str, Any] = {"name": self.name, "sent": now(), "first": None, "answers": []}
        if self._leave is not None:
            threading.Timer(self._leave, self._go).start()
        texts: dict[int, str] = {}
        try:
            self._link.request(
                "POST", self._path or "/completion", json.dumps(self._request),
                {"Content-Type": "application/json"},
            )  # fmt: skip
            reply = self._link.getresponse()
            if reply.status != http.client.OK:
                told["error"] = reply.read().decode()
            elif self._path:
                told["usage"] = json.load(reply)["usage"]
            for line in reply:
                if not line.startswith(b"data: {"):
                    continue
                part = json.loads(line.removeprefix(b"data: "))
                told["first"] = told["first"] or now()
                index = part["index"]
                texts[index] = texts.get(index, "") + part["content"]
                if part["stop"]:
                    told["answers"].append(
                        {"index": index, "slot": part["id_slot"], **part["timings"],
                         "text": texts[index]}
                    )  # fmt: skip
        except (OSError, http.client.HTTPException, AttributeError):
            if not self._has_left:
                raise
        told["ended"] = now()
        told["has_left"] = self._has_left
        told["answers"].sort(key=lambda answer: int(answer["index"]))
        return told

    def _go(self) -> None:
        """Closes the connection under whoever waits at it."""
        self._has_left = True
        with suppress(OSError, AttributeError):
            self._link.sock.shutdown(2)
        self._link.close()


def set_parameter(parameters: Any, name: str, text: str) -> None:
    """Sets CommonParams' field `name` (dots for nested ones) to a JSON value."""
    *path, last = name.split(".")
    for part in path:
        parameters = getattr(parameters, part)
    setattr(parameters, last, json.loads(text))


def main() -> int:
    """Serves, asks, ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("load", type=argparse.FileType())
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--context", type=int, default=2048, help="tokens of all slots together")
    parser.add_argument("--draft", metavar="MODEL", help="speculates with this model")
    parser.add_argument("--drafted", type=int, default=4, help="tokens drafted at most in a step")
    parser.add_argument("--cache", action="store_true", help="keep prompts for requests to come")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE",
                        help="a field of CommonParams, as JSON")  # fmt: skip
    args = parser.parse_args()

    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = args.model
    params.n_ctx = args.context
    params.n_parallel = args.slots
    params.warmup = False
    params.verbosity = -1
    params.cache_prompt = args.cache
    params.port = 0  # any that is free
    for cpus in (params.cpuparams, params.cpuparams_batch):
        cpus.n_threads = args.threads
    if args.draft:
        kinds = xllamacpp.common_speculative_type
        params.speculative.types = [kinds.COMMON_SPECULATIVE_TYPE_DRAFT_SIMPLE]
        draft = params.speculative.draft
        draft.mparams.path = args.draft
        draft.n_max = args.drafted
        for cpus in (draft.cpuparams, draft.cpuparams_batch):
            cpus.n_threads = args.threads
    for item in args.set:
        set_parameter(params, *item.split("=", 1))
    server = xllamacpp.Server(params)
    print("ready", flush=True)
    for requests in json.load(args.load):
        clients = [Client(server.listening_address, request) for request in requests]
        with ThreadPoolExecutor(len(clients)) as pool:
            for told in pool.map(Client.ask, clients):
                print(json.dumps(told), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
