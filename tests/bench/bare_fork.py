"""The floor of bench_sandbox.py: a warm interpreter that forks for every candidate and isolates nothing.

argv[1]: modules to import first, separated by commas. A line of JSON in, [source, lines]; a line of verdicts out, 1 or 0.
"""

import gc
import importlib
import json
import os
import sys


def run(source: str, lines: list[str], channel: int) -> None:
    space: dict[str, object] = {}
    exec(compile(source, "<candidate>", "exec", dont_inherit=True), space)
    for line in lines:
        try:
            exec(compile(line, "<line>", "exec", dont_inherit=True), space)
            os.write(channel, b"1")
        except BaseException:
            os.write(channel, b"0")


def judge(source: str, lines: list[str]) -> bytes:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            run(source, lines, writing)
        finally:
            os._exit(0)
    os.close(writing)
    verdicts = b""
    while data := os.read(reading, 4096):
        verdicts += data
    os.close(reading)
    os.waitpid(child, 0)
    return verdicts


for name in sys.argv[1].split(","):
    importlib.import_module(name)
exec(compile("def f(x: int) -> list[int]:\n    return [i for i in range(x)]\nassert f(1) == [0]", "<warm-up>", "exec"), {})
gc.collect()
gc.freeze()
for request in sys.stdin:
    sys.stdout.write(judge(*json.loads(request)).decode() + "\n")
    sys.stdout.flush()
